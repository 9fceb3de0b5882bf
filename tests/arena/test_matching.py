import math

import pytest
import torch

from tpdm.arena.matching import Dial
from tpdm.evaluation.result import Problems
from tpdm.types import Trajectory

CALLS = {"rising": lambda knob, x: 4 * knob + x, "falling": lambda knob, x: 6 / knob + x}


def problems(size=400):
    """Whose ends are not known."""
    noise = torch.arange(size).reshape(size, 1, 1, 1) / size
    nowhere = torch.full((size, 1, 1, 1), math.nan)
    return Problems(torch.zeros(size, 1), noise, range(size), nowhere, 128)


def dial(calls):
    def run_at(knob):
        def run(noise, cond, seeds):
            nfe = CALLS[calls](knob, noise.flatten()).round().int()
            return Trajectory(noise, torch.zeros(len(noise), 2), torch.ones(len(noise), 1).bool(), nfe)

        return run

    return Dial(run_at, problems(), 0.25, 8.0)


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("target", [2, 3, 5.5, 11, 20])
def test_a_knob_is_turned_until_the_mean_is_right(calls, target):
    found = dial(calls)
    assert found.calls(found.turn(target)) == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize("calls", CALLS)
def test_a_budget_out_of_reach_gets_the_nearest(calls):
    found = dial(calls)
    ends = sorted(found.calls(knob) for knob in (0.25, 8.0))
    assert [found.calls(found.turn(target)) for target in (0.1, 1000)] == ends


def test_what_was_asked_before_changes_no_answer():
    alone, after = dial("rising"), dial("rising")
    for other in (3, 11, 4.9):
        after.turn(other)
    assert alone.turn(5) == after.turn(5)
