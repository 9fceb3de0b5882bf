"""How long an arena takes: foreseen, counted, and told by a clock that a busy machine does not deceive."""

from types import SimpleNamespace

import pytest
import torch

from tests.arena.parts import CONTESTANTS, arena
from tpdm.arena import timing
from tpdm.arena.effort import foreseen, in_words
from tpdm.arena.timing import Timed
from tpdm.arena.tournament import enrolled, matches, on_the_clock
from tpdm.suite.arena import crew

SIMPLE = {name: CONTESTANTS[name] for name in ("table", "adaptive", "allocator", "controlled")}


def to_be_made(one):
    entered = enrolled(one.camp, one.targets)
    met = matches(one.camp, entered, one.targets)
    return foreseen(one.camp, one.seeds, met, on_the_clock(one.camp, entered), one.timed)


def test_calls_are_foreseen_roughly_and_none_where_all_is_there(tmp_path, capfd):
    one = arena(tmp_path, contestants=SIMPLE, targets=[2, 4], search=128, matching=96, evaluation=256)
    calls = to_be_made(one)
    one()
    assert calls == pytest.approx(one.meter.calls, rel=0.5)
    told = capfd.readouterr().err
    assert f"suite=arena: about {calls:,} denoiser calls" in told
    assert to_be_made(one) == 0
    again = arena(tmp_path, contestants=SIMPLE, targets=[2, 4], search=128, matching=96, evaluation=256)
    again()
    assert again.meter.calls == 0
    assert "suite=arena" not in capfd.readouterr().err


@pytest.mark.parametrize("batch", [4, 100])
def test_timing_is_foreseen_to_the_call_also_where_nothing_else_is_left(batch, tmp_path):
    """On no more samples than there are, which are fewer than a batch of 100."""
    sizes = {
        "contestants": {"table": CONTESTANTS["table"]},
        "targets": [2, 3],
        "seeds": [0],
        "evaluation": 16,
    }
    arena(tmp_path, **sizes)()
    again = arena(tmp_path, **sizes, timed_batch=batch, timed_repeats=2)
    calls = to_be_made(again)
    assert calls > 0
    again()
    assert again.meter.calls == calls


def test_what_is_there_already_is_no_longer_foreseen(tmp_path):
    one = arena(tmp_path, contestants=SIMPLE, targets=[2, 4], seeds=[0])
    calls = to_be_made(one)
    one.ring(0)
    assert to_be_made(one) == calls - 4 * 6 * (8 + 64 + 48) + 4 * 6 * (8 + 64)  # only evaluation was followed


def test_hours_are_told_with_smaller_sizes():
    assert in_words(3_600_000, 1000, 2) == (
        "suite=arena: about 3,600,000 denoiser calls, 1,000.0 a second here, 2 processes: 30.0 minutes"
    )
    told = in_words(5_000_000, 1, 1)
    assert "about 5,000,000 denoiser calls, 1.0 a second here: 1388.9 hours. Smaller: " in told
    assert "suite.seeds=[0] suite.targets=[4,8]" in told


def test_time_in_calls_is_the_same_on_a_machine_that_is_half_as_fast(tmp_path, monkeypatch):
    """The clock goes by calls of the denoiser, each of which takes longer and longer."""
    one = arena(tmp_path, contestants=SIMPLE, grids={}, samplers={}, timed_repeats=3)
    now, call = [0.0], type(one.meter).__call__

    def slower(self, *asked):
        now[0] += 1.0 * 1.003 ** len(one.meter.denoiser.calls)
        return call(self, *asked)

    monkeypatch.setattr(type(one.meter), "__call__", slower)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    found = timing.clocked(one.ring(0), ["table"], 4, Timed(8, 3))
    assert found.calls["table"] == pytest.approx(4, rel=0.01)


def test_few_samples_that_are_timed_stand_for_the_calls_of_all(tmp_path, monkeypatch):
    """The clock goes by calls alone, so that time in calls is the mean number of calls."""
    one = arena(tmp_path, contestants=SIMPLE, grids={}, samplers={})
    now, call = [0.0], type(one.meter).__call__

    def ticking(self, x, *asked):
        now[0] += len(x)
        return call(self, x, *asked)

    monkeypatch.setattr(type(one.meter), "__call__", ticking)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    ring = one.ring(0)
    assert ring.played("adaptive", 3).nfe[:2].float().mean() != ring.played("adaptive", 3).nfe.float().mean()
    found = timing.clocked(ring, ["adaptive"], 3, Timed(2, 1))
    assert found.calls["adaptive"] == pytest.approx(ring.played("adaptive", 3).nfe.float().mean().item())


def test_a_gpu_is_left_to_one_process():
    assert crew(3, torch.device("cpu")) == 3
    assert crew(None, torch.device("cpu")) == torch.get_num_threads()
    assert crew(None, torch.device("cuda")) == 1
    with pytest.raises(ValueError, match=r"suite\.processes=2 on cuda; accepted there: 1, null"):
        crew(2, torch.device("cuda"))
