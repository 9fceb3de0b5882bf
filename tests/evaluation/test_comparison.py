"""What several schedules made of the same images, against sums done by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.scheduler.paths import LEVEL_NAMES, path
from tpdm.evaluation.comparison import Comparison
from tpdm.evaluation.records import Record
from tpdm.evaluation.schedule import dealt, even, uniform
from tpdm.scheduler.flow import Flow


def records(schedule, scores, nfe=2):
    times = [1.0, *[0.5] * (nfe - 1), 0.0]
    return [Record(k, f"{k}", k, schedule, nfe, times, {"pick": s}) for k, s in enumerate(scores)]


def test_an_image_that_a_reward_could_not_judge_is_left_out_and_counted():
    made = Comparison(
        {
            "predictor": records("predictor", [1.0, None, 3.0]),
            "4 steps": records("4 steps", [0.0, 9.0, 4.0], 4),
        },
        ["4 steps"],
        "4 steps",
        ["pick"],
    )
    figures = made.figures()
    assert (figures["pick"], figures["pick, 4 steps"]) == ("2 +- 1", "4.333 +- 2.6")
    assert figures["pick, less that of 4 steps"] == "0 +- 1"  # of 1 and -1
    assert figures["pick, images without"] == 1
    assert made.rows()[0]["pick"] == 2
    lines = made.as_csv().splitlines()
    assert lines[2] == "1,1,1,predictor,2,1 0.5 0,,predictor/00001.png"
    assert made.plots()["quality_pick"].size == (864, 540)


def test_where_nothing_was_judged_there_is_no_number():
    made = Comparison({"predictor": records("predictor", [None])}, [], "predictor", ["pick"])
    assert made.figures()["pick"] == "none"
    assert made.rows()[0]["pick"] is None
    assert made.plots()["quality_pick"].size == (864, 540)


@given(count=st.integers(1, 30), extra=st.integers(0, 300))
def test_steps_are_dealt_to_the_last_one(count, extra):
    steps = dealt(count + extra, count)
    assert (sum(steps), len(steps)) == (count + extra, count)
    assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_even_steps_are_bent_by_the_path_and_uniform_ones_are_not(shift):
    flow = Flow(shift, "velocity")
    t = even(flow, [4, 2])
    u = torch.tensor([1, 0.75, 0.5, 0.25, 0])
    torch.testing.assert_close(t[0], shift * u / (1 + (shift - 1) * u))
    torch.testing.assert_close(t[1], torch.cat([t[0, [0, 2, 4]], torch.zeros(2)]))
    torch.testing.assert_close(uniform(flow, [4])[0], u)


@pytest.mark.parametrize("name", LEVEL_NAMES)
@pytest.mark.parametrize("schedule", [even, uniform])
def test_schedules_begin_where_a_path_does_and_end_at_the_data(name, schedule):
    [t] = schedule(path(name), [7])
    assert (t[0].item(), t[-1].item()) == (pytest.approx(path(name).t_max), 0)
    assert (t.diff() < 0).all()
