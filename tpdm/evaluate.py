"""python -m tpdm.evaluate run=FOLDER [key=value ...]

Makes the table of a finished run again, from its files; with ema=false into the run's folder raw/.

Examples:
  python -m tpdm.evaluate run=runs/NAME
  python -m tpdm.evaluate run=runs/NAME batch_size=64
  python -m tpdm.evaluate run=runs/NAME ema=false
  python -m tpdm.evaluate run=runs/NAME nfe=6
  python -m tpdm.evaluate run=runs/NAME device=cuda
  python -m tpdm.evaluate -m run=runs/ONE,runs/TWO
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component, Positive


class Settings(TypedDict):
    """What conf/evaluate.yaml holds."""

    run: str
    ema: bool
    batch_size: Positive[int] | None
    nfe: Positive[float] | None
    cost: Positive[float] | None
    device: Literal["auto", "cpu", "cuda"]
    debug: bool
    launcher: Component


@entry("evaluate", Settings)
def main(cfg: dict[str, Any]) -> None:
    from tpdm.assembly import device_of
    from tpdm.finished import FinishedRun

    finished = FinishedRun.open(cfg["run"], device_of(cfg["device"]), cfg["ema"])
    with finished.run.lock():
        finished.evaluate_again(cfg["batch_size"], cfg["nfe"], cfg["cost"])


if __name__ == "__main__":
    main()
