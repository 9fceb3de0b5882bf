"""Ratios to the baseline, whose error is known and falls by the same with every step."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.arena.parts import CONTESTANTS, arena
from tpdm.arena.borrowed import MeanSchedule
from tpdm.arena.contestant import Outcome
from tpdm.arena.ring import Ring
from tpdm.arena.standing import against_mean, against_static

SIZE, LONGEST = 40, 9


def outcome(nfe):
    """Every call takes 1 off an error of 10."""
    nfe = torch.as_tensor(nfe).expand(SIZE).float()
    return Outcome(nfe, 10 - nfe, torch.zeros(SIZE, 1), {}, {}, 0.0)


@pytest.fixture
def ring(monkeypatch):
    absent = {
        "absence": lambda name, n: None if n <= LONGEST else "too long",
        "longest": lambda most: min(most, LONGEST),
        "contestants": {"mean_schedule": MeanSchedule("adaptive")},
    }
    monkeypatch.setattr(Ring, "static", lambda ring, n: outcome(n))
    return Ring(0, SimpleNamespace(baseline="table", **absent), None, None)


@pytest.mark.parametrize("mean", [3, 3.05, 3.5])
def test_in_every_drawing_the_baseline_has_the_calls_that_were_drawn(ring, mean):
    """Also where the mean of all is whole, and that of a drawing is not."""
    nfe = torch.full((SIZE,), 2)
    nfe[: round((mean - 2) * SIZE / 2)] = 4
    assert nfe.float().mean() == pytest.approx(mean)
    assert against_static([ring], [outcome(nfe)]) == pytest.approx((1, 1, 1), abs=1e-12)


def test_where_the_error_falls_steeply_no_drawing_has_one_below_zero(ring, monkeypatch):
    """By half with every call: a straight line led on would soon lie below 0."""
    half = lambda n: replace(outcome(n), error=torch.full((SIZE,), 0.5**n))  # noqa: E731
    monkeypatch.setattr(Ring, "static", lambda ring, n: half(n))
    nfe = torch.full((SIZE,), 2)
    nfe[:3] = 9
    found = against_static([ring], [replace(outcome(nfe), error=torch.ones(SIZE))])
    assert 0 < found.low < found.value < found.high
    assert found.high < 2**4


def test_whoever_does_as_the_baseline_does_is_worth_exactly_as_much(ring):
    assert against_static([ring], [outcome(3)]) == (1, 1, 1)


@pytest.mark.parametrize("mean", [3, 3.5])
def test_in_every_drawing_the_mean_schedule_has_the_calls_that_were_drawn(ring, monkeypatch, mean):
    """It makes half of the baseline's error, whatever a drawing's calls: so do all intervals say."""
    nfe = torch.full((SIZE,), 2)
    nfe[: round((mean - 2) * SIZE / 2)] = 4
    own = outcome(mean)
    monkeypatch.setattr(ring, "played", lambda name, target: replace(own, error=own.error / 2))
    found = against_mean([ring], "adaptive", 3, [outcome(nfe)])
    assert found == pytest.approx((2, 2, 2), abs=1e-6)
    assert against_mean([ring], "another", 3, [outcome(nfe)]) is None


def test_seeds_are_drawn_again_each_for_itself(ring):
    """Two sets are worth twice as many samples, which narrows an interval by the root of two; the same
    drawing of both would not."""
    result = replace(outcome(3), error=outcome(3).error * torch.linspace(0.5, 1.5, SIZE))
    one = against_static([ring], [result])
    both = against_static([ring, Ring(1, ring.camp, None, None)], [result, result])
    assert both.value == pytest.approx(one.value)
    assert (one.high - one.low) / (both.high - both.low) == pytest.approx(2**0.5, rel=0.1)


def test_an_interval_is_that_of_ninety_five_in_a_hundred(ring):
    """The normal law's, of a mean over one that is known: 1.96 standard errors to each side."""
    error = outcome(3).error * torch.linspace(0.5, 1.5, SIZE)
    found = against_static([ring], [replace(outcome(3), error=error)])
    reach = 1.96 * torch.linspace(0.5, 1.5, SIZE).std(correction=0).item() / SIZE**0.5
    assert (found.value - found.low, found.high - found.value) == pytest.approx((reach, reach), rel=0.1)


def test_calls_beyond_the_longest_baseline_are_held_against_that(ring):
    assert against_static([ring], [outcome(LONGEST - 0.75)]) == pytest.approx((1, 1, 1))
    for nfe in (LONGEST, LONGEST + 0.5, LONGEST + 2.5):
        assert [around.nfe[0] for around in ring.static_around(nfe)] == [LONGEST, LONGEST]


def test_a_table_has_an_end(tmp_path):
    one = arena(tmp_path, contestants={"table": CONTESTANTS["table"]}, seeds=[0]).ring(0)
    assert one.static_around(11.2)[0] is one.static(8)
