"""What cannot be played is refused in one line, before anything is computed."""

import pytest

from tests.runs import command, refused
from tpdm import evaluate
from tpdm.arena import camp

SOLVERS = "accepted: ddim, ddpm, deis, dpmpp_2m, euler, heun, unipc"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["suite.targets=[4,1000000]"],
            "suite.targets holds 1000000, which takes every schedule of 1 to 1000000 steps of "
            "suite.baseline=table; accepted: up to 12, since its table ends at 12 steps",
        ),
        (["suite.contestants.oracle_shape.powers=[]"], "suite.contestants.oracle_shape.powers=[] is empty"),
        (
            ["+sampler@suite.samplers.x=static"],
            f"suite.samplers.x.name='static' (str) is not accepted; it makes no FixedSampler; {SOLVERS}",
        ),
        (["+sampler@suite.samplers.x=error_controlled"], f"it makes no FixedSampler; {SOLVERS}"),
        (["+sampler@suite.samplers.x=adaptive"], f"it makes no FixedSampler; {SOLVERS}"),
        (
            ["+sampler@suite.samplers.x=allocated", "suite.samplers.x.path=nowhere"],
            f"it makes no FixedSampler; {SOLVERS}",
        ),
        (
            ["+sampler/grid@suite.grids.r=respaced"],
            "'respaced' (str) is not accepted; it needs scheduler, which it is not told here; accepted: beta",
        ),
        (
            ["~suite.samplers", "~suite.contestants", "~suite.searches"],  # none of them
            "suite.baseline=table is no schedule; accepted: uniform, shifted, shifted_twice, cosine, karras, "
            "exponential, beta\n",
        ),
        (["~suite.grids", "~suite.searches", "~suite.contestants"], "no schedule; accepted: none\n"),
        (["sampler/grid@suite.samplers.euler.grid=respaced"], "suite.samplers.euler.grid.name='respaced'"),
    ],
)
def test_what_cannot_be_played_leaves_nothing(argv, line, copy, monkeypatch):
    monkeypatch.setattr(camp.Camp, "found", None)
    refused(command(evaluate.main, f"run={copy}", "suite=arena", *argv), line)
    assert not (copy / "arena").exists()
