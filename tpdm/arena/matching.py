"""A budget is met by one knob, turned until the mean number of calls is right. No error is ever looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from tpdm.evaluation.result import Problems, Run

COARSE = 7  # places of the knob, equal ratios apart, that every target starts from
FINER, NEAR = 4, 0.01  # how often at most it is turned on from there, and how near is enough


class Dial:
    """`run_at` makes the sampler of a knob; its mean calls rise or fall with the knob all the way.

    They are counted on `problems`, whose ends are not asked for.
    """

    def __init__(self, run_at: Callable[[float], Run], problems: Problems, low: float, high: float):
        self.calls = cache(lambda knob: mean_calls(run_at(knob), problems))
        self.places = [low * (high / low) ** (k / (COARSE - 1)) for k in range(COARSE)]

    def turn(self, target: float) -> float:
        """The knob of `target` calls, a function of the target alone; the nearest end where there is none."""
        falling = self.calls(self.places[0]) > self.calls(self.places[-1])
        few, many = (self.places[-1], self.places[0]) if falling else (self.places[0], self.places[-1])
        if not self.calls(few) < target < self.calls(many):
            return few if target <= self.calls(few) else many
        few = max((p for p in self.places if self.calls(p) <= target), key=self.calls)
        many = min((p for p in self.places if self.calls(p) > target), key=self.calls)
        return self._between(few, many, target)

    def _between(self, few: float, many: float, target: float) -> float:
        """Secants on the logarithms of both, kept between what is too few and what is too many."""
        seen = {knob: self.calls(knob) for knob in (few, many)}
        for _ in range(FINER):
            nearest = min(seen, key=lambda knob: abs(seen[knob] - target))
            if abs(seen[nearest] - target) < NEAR * target:
                break
            share = math.log(target / seen[few]) / math.log(seen[many] / seen[few])
            knob = few * (many / few) ** min(max(share, 0.1), 0.9)
            seen[knob] = mean = self.calls(knob)
            few, many = (knob, many) if mean <= target else (few, knob)
        return min(seen, key=lambda knob: abs(seen[knob] - target))


def mean_calls(run: Run, problems: Problems) -> float:
    return sum(int(run(*batch).nfe.sum()) for batch in problems.batches()) / len(problems.seeds)
