"""Time by a clock that only samplers move."""

from types import SimpleNamespace

import pytest
import torch

from tpdm.arena import timing
from tpdm.arena.contestant import Entry, Share
from tpdm.arena.timing import one_turn


def test_a_mixture_takes_the_time_and_the_calls_of_each_part_by_its_share(monkeypatch):
    """A second for each call and ten for each start, so that time is not in proportion to calls."""
    now = [0.0]

    def making(calls):
        def run(noise, cond, seeds):
            now[0] += (10 + calls) * len(noise)
            return SimpleNamespace(nfe=torch.full((len(noise),), calls))

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    x = torch.zeros(6, 1)
    ring = SimpleNamespace(evaluation=SimpleNamespace(noise=x, cond=x, seeds=range(6)))
    entry = Entry([Share(0.75, making(2)), Share(0.25, making(6))], {}, 0.0)
    assert one_turn(ring, entry, 4) == pytest.approx((0.75 * 12 + 0.25 * 16, 0.75 * 2 + 0.25 * 6))
