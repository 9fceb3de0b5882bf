"""python -m tpdm.sample run=FOLDER | checkpoint=FILE | model=sd3 [key=value | group=choice ...]

Draws images from a finished run, with its own sampler or any other.
An image depends on its seed and its labels or prompt alone, not on the batch.
Without run, checkpoint and model, the run that was finished last is drawn from.

A checkpoint is a published DiT, DiffiT or TLD, by its own names, as .pt or .safetensors. It is drawn from by
25 steps of DPM-Solver++(2M) at the guidance of its authors, on all channels unless guidance.channels says
otherwise; without a codec the latents are kept beside a picture of their first three channels.

model=sd3 is a pipeline in diffusers' layout, drawn from by a predictor that was trained elsewhere, in
predictor_folder, or by the published one, which then draws as its reference does; or by a fixed sampler.

How many calls an image takes is asked for by steps=N where all take the same, by sampler=euler and its like.
Where each takes its own: nfe=N is the mean, for sampler=allocated or a predictor that was trained with
reward/cost=drawn; cost=C in its place what a call may cost; max_nfe=N the most, for any predictor too.

Examples:
  python -m tpdm.sample run=runs/NAME seeds=0-63 grid=8x8
  python -m tpdm.sample run=runs/NAME labels=[3,-,-,7] seeds=0-15
  python -m tpdm.sample run=runs/NAME prompt="a bold three, tilted left" seeds=0-15 grid=4x4
  python -m tpdm.sample run=runs/NAME sampler=euler steps=8
  python -m tpdm.sample run=runs/NAME sampler=dpmpp_2m sampler/grid=shifted steps=6
  python -m tpdm.sample run=runs/NAME max_nfe=8
  python -m tpdm.sample run=runs/NAME nfe=6
  python -m tpdm.sample run=runs/NAME cost=1e-3
  python -m tpdm.sample run=runs/NAME sampler=allocated sampler.path=runs/NAME/arena/allocator nfe=6 max_nfe=8
  python -m tpdm.sample run=runs/NAME sampler=static sampler.grid=runs/NAME/arena/table.json steps=6
  python -m tpdm.sample run=runs/NAME export=diffusers out=schedule.png
  python -m tpdm.sample run=runs/NAME guidance_scale=2 ema=false out=guided.png
  python -m tpdm.sample model=sd3 predictor=official predictor.path=FILE prompt="a red cat" seeds=0-3
  python -m tpdm.sample model=sd3 predictor_folder=runs/NAME/predictor prompt="a red cat" seeds=0-3
  python -m tpdm.sample model=sd35_medium sampler=euler sampler/grid=shifted prompt="a red cat" seeds=0
  python -m tpdm.sample checkpoint=DiT-XL-2-256x256.pt labels=[207] seeds=0-3 codec=sd_vae
  python -m tpdm.sample checkpoint=DiT.pt guidance=constant guidance.channels=3 guidance_scale=4
  python -m tpdm.sample checkpoint=DiT.pt sampler=ddpm sampler/grid=respaced steps=250
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component, NonNegative, Positive


class Settings(TypedDict):
    """What conf/sample.yaml holds."""

    run: str | None
    runs: str
    checkpoint: str | None
    model: Component | None
    predictor: Component | None
    scheduler: Component | None
    evaluation: Component | None
    baseline: Component | None
    num_heads: Positive[int] | None
    prompt: str | None
    prompts: list[str] | None
    labels: list[int | str | list[int | str]] | None
    seeds: NonNegative[int] | list[NonNegative[int] | str] | str
    grid: str
    steps: Positive[int] | None
    nfe: Positive[float] | None
    cost: Positive[float] | None
    max_nfe: Positive[int] | None
    guidance_scale: NonNegative[float] | None
    predictor_folder: str | None
    ema: bool
    batch_size: Positive[int]
    out: str | None
    export: Literal["diffusers"] | None
    device: Literal["auto", "cpu", "cuda"]
    debug: bool
    codec: Component | None
    guidance: Component | None
    sampler: Component | None
    launcher: Component


@entry("sample", Settings)
def main(cfg: dict[str, Any]) -> None:
    from tpdm.drawing import draw

    draw(cfg)


if __name__ == "__main__":
    main()
