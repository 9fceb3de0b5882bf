"""python -m tpdm.sample run=FOLDER [key=value | group=choice ...]

Draws images from a finished run, with its own sampler or any other.
An image depends on its seed and its labels alone, not on the batch.

Examples:
  python -m tpdm.sample run=runs/NAME seeds=0-63 grid=8x8
  python -m tpdm.sample run=runs/NAME labels=[3,-,-,7] seeds=0-15
  python -m tpdm.sample run=runs/NAME sampler=euler steps=8
  python -m tpdm.sample run=runs/NAME sampler=dpmpp_2m sampler/grid=shifted steps=6
  python -m tpdm.sample run=runs/NAME guidance_scale=2 ema=false out=guided.png
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component, NonNegative, Positive


class Settings(TypedDict):
    """What conf/sample.yaml holds."""

    run: str
    labels: list[int | str | list[int | str]] | None
    seeds: NonNegative[int] | list[NonNegative[int] | str] | str
    grid: str
    steps: Positive[int] | None
    guidance_scale: NonNegative[float] | None
    predictor_folder: str | None
    ema: bool
    batch_size: Positive[int]
    out: str | None
    device: Literal["auto", "cpu", "cuda"]
    debug: bool
    guidance: Component | None
    sampler: Component | None
    launcher: Component


@entry("sample", Settings)
def main(cfg: dict[str, Any]) -> None:
    from tpdm.drawing import draw

    draw(cfg)


if __name__ == "__main__":
    main()
