"""python -m tpdm.evaluate run=FOLDER [key=value ...]

Makes the table of a finished run again, from its files; with ema=false into the run's folder raw/.
suite=arena plays everything that places steps, at every budget, into the folder arena/.

With prompts, the run's predictor and fixed schedules draw images of them from the same noises into a folder,
where rewards judge them: report.html, results.csv, plots, and each image with its times. Started again with
the same settings, it goes on where it stopped.

Examples:
  python -m tpdm.evaluate run=runs/NAME
  python -m tpdm.evaluate run=runs/NAME batch_size=64
  python -m tpdm.evaluate run=runs/NAME ema=false
  python -m tpdm.evaluate run=runs/NAME nfe=6 max_nfe=8
  python -m tpdm.evaluate run=runs/NAME device=cuda
  python -m tpdm.evaluate run=runs/NAME prompt="A beautiful sunset over mountains"
  python -m tpdm.evaluate run=runs/NAME prompts=prompts.jsonl batch_size=4 max_steps=28 out=judged
  python -m tpdm.evaluate run=runs/NAME prompts=prompts.txt reward=pick_score reward@clip=clip_score
  python -m tpdm.evaluate run=runs/NAME prompts=prompts.txt own_rewards=false steps=[4,16,50]
  python -m tpdm.evaluate run=runs/NAME suite=arena
  python -m tpdm.evaluate run=runs/NAME suite=arena suite.targets=[4,6,8] suite.seeds=[0]
  python -m tpdm.evaluate -m run=runs/ONE,runs/TWO
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component, NonNegative, Positive


class Settings(TypedDict):
    """What conf/evaluate.yaml holds."""

    run: str
    suite: Component | None
    ema: bool
    batch_size: Positive[int] | None
    nfe: Positive[float] | None
    cost: Positive[float] | None
    max_nfe: Positive[int] | None
    prompt: str | None
    prompts: str | None
    samples: Positive[int] | None
    seed: NonNegative[int] | None
    max_steps: Positive[int] | None
    steps: list[Positive[int]] | None
    guidance_scale: NonNegative[float] | None
    own_rewards: bool | None
    reward: Component | None
    clip: Component | None
    out: str | None
    device: Literal["auto", "cpu", "cuda"]
    debug: bool
    launcher: Component


@entry("evaluate", Settings)
def main(cfg: dict[str, Any]) -> None:
    from tpdm.assembly import device_of
    from tpdm.competing import compete
    from tpdm.finished import FinishedRun
    from tpdm.judging import asked_for, judge

    prompts = asked_for(cfg)
    finished = FinishedRun.open(cfg["run"], device_of(cfg["device"]), cfg["ema"])
    with finished.run.lock() if finished.run.is_writable else nullcontext():  # or nobody changes it
        if cfg["suite"] is not None:
            print(compete(finished, cfg["suite"], cfg["batch_size"]))
        elif prompts is None:
            finished.evaluate_again(cfg["batch_size"], cfg["nfe"], cfg["cost"], cfg["max_nfe"])
        else:
            judge(finished, cfg, prompts)


if __name__ == "__main__":
    main()
