"""Whole commands on tiny runs, in this process or in a fork of it that dies."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from tpdm import stages, train
from tpdm.evaluation import digit_classifier
from tpdm.runtime.checkpoint import Checkpoints
from tpdm.trainer.stage import Stage

STEPS = {"denoiser": 6, "predictor": 4, "time_only": 2}  # of the stages, in their order
SAVE_EVERY = 2
MODEL = ("model.width=16", "model.depth=1", "model.num_heads=2")
PREDICTOR = (
    "predictor.width=16", "predictor.num_heads=2", "predictor.time_width=16", "baseline.width=16",
    "predictor.init_logits=[0.2,0.5]", "sampler.max_steps=12",
)  # fmt: skip
LOOPS = (
    f"trainer.max_steps={STEPS['denoiser']}", "trainer.batch_size=8", f"trainer.save_every={SAVE_EVERY}",
    "trainer.report_every=1", "trainer.preview_every=3", "optimizer.lr=1e-2", "optimizer.warmup=0",
    f"predictor_trainer.max_steps={STEPS['predictor']}", f"predictor_trainer.save_every={SAVE_EVERY}",
    "predictor_trainer.prompts=2", "predictor_trainer.samples=2", "predictor_trainer.pool_size=4",
    "predictor_trainer.reference_steps=2", f"baseline_steps={STEPS['time_only']}",
    "evaluation.num_samples=16", "evaluation.reference_steps=2",
)  # fmt: skip
TINY = (*MODEL, *PREDICTOR, *LOOPS)


hasty_judge = partial(patch.object, digit_classifier, "STEPS", 10)


class Ended(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


def command(main: Callable[[], None], *argv: str) -> Ended:
    """Runs a command as its command line would, with a judge of digits that has hardly looked at them."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    line = patch.object(sys, "argv", ["tpdm", *argv])
    with line, hasty_judge(), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = end.code
    return Ended(status, out.getvalue(), err.getvalue())


def refused(ended: Ended, line: str) -> None:
    """One line, which says `line`, and the status of a mistake."""
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("tpdm: error: ")
    assert ended.err.count("\n") == 1
    assert line in ended.err, ended.err


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        raise error

    return function


def trained(cfg: dict[str, Any]) -> None:
    """Trains all stages of a config, and leaves the evaluation out."""
    with hasty_judge(), patch.object(stages.Training, "summarise"):
        stages.train(cfg)


def forked(act: Callable[[], Any]) -> int:
    """Runs `act` in a fork of this process; its exit status, negative for the signal that killed it."""
    return ended(started(act))


def started(act: Callable[[], Any]) -> int:
    """The id of a fork of this process that runs `act`."""
    if child := os.fork():
        return child
    status = 1
    try:
        act()
        status = 0
    finally:
        os._exit(status)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def at(stage: str, step: int, act: Callable[[], Any]) -> Iterator[None]:
    """Calls `act` when that step of that stage was reported, before it could be saved."""
    report = Stage.report

    def reporting(self: Stage, now: int, *values: Any) -> None:
        report(self, now, *values)
        if (self.name, now) == (stage, step):
            act()

    with patch.object(Stage, "report", reporting):
        yield


def last_checkpoint(run: Path, stage: str) -> dict[str, Any]:
    found = Checkpoints(run / "checkpoints", stage).load_latest()
    assert found is not None
    return {"step": found[0], **found[1]}


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, tensors and all."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written and what is in it."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


if __name__ == "__main__":  # for torchrun
    ended = command(train.main, *sys.argv[1:])
    print(ended.out, ended.err)
    sys.exit(ended.status)
