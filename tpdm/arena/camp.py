"""Where contestants prepare, once for all seeds: what they work with, and what they found there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.arena.contestant import Contestant, Schedule
from tpdm.arena.matching import Dial
from tpdm.arena.sets import Sets
from tpdm.arena.store import Kept, Key, Store, described
from tpdm.evaluation.result import Run
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.grid import Levels
from tpdm.sampler.integrate import Step
from tpdm.scheduler.path import by_noise_level
from tpdm.types import CostRange, DenoiserLike, TimePredictor

ALL_THE_WAY, TURNS = 70, 2  # calls for a sample at all places of a dial; times that a budget is then tried


@dataclass(frozen=True)
class Trained:
    """A predictor of the run."""

    predictor: TimePredictor
    costs: CostRange | None  # of a step, where it is told one
    seconds: float  # that its training took


@dataclass(frozen=True)
class Runner:
    """The run that is put to the test: its denoiser, how its samples step, and what it trained."""

    denoiser: DenoiserLike
    step: Step
    sampler: AdaptiveSampler | None  # None: it samples by a fixed grid
    predictors: Mapping[str, Trained]  # by the names of their folders
    decode: Callable[[Tensor], Tensor]
    known_by: Mapping[str, Any]  # what tells its denoiser, under its guidance, from any other

    @property
    def t_max(self) -> float:
        """The noise level where its path begins."""
        return by_noise_level(self.denoiser.scheduler).t_max


class Found(NamedTuple):
    """What a search left, and how long it took when it was done."""

    numbers: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    seconds: float


class Camp:
    """All that is found is kept in `store` as soon as it is there, and is the same for every seed.

    `baseline` is the static schedule, for every number of steps, that all are held against.
    """

    def __init__(
        self,
        runner: Runner,
        sets: Sets,
        contestants: Mapping[str, Contestant],
        baseline: str,
        store: Store,
    ):
        self.runner, self.sets, self.contestants, self.baseline = runner, sets, contestants, baseline
        self.store = store
        self._dials: dict[str, Dial] = {}

    def absence(self, name: str, target: int) -> str | None:
        """Why a contestant cannot take part; None where it can."""
        return self.contestants[name].absent(self, target)

    def longest(self, most: int) -> int:
        """Up to how many steps, and `most` at most, the baseline has a schedule of every number."""
        return next((n - 1 for n in range(1, most + 1) if self.absence(self.baseline, n)), most)

    def shortage(self, most: int) -> str | None:
        """Why the baseline does not have every schedule of 1 to `most` steps; None where it has."""
        longest = self.longest(most)
        return None if longest == most else self.absence(self.baseline, longest + 1)

    def key(self, name: str) -> dict[str, Any]:
        """All that decides a contestant's results: its choices, and those of whom it leans on."""
        contestant = self.contestants[name]
        others = (
            contestant.leans_on() if contestant.kind == "static" else (self.baseline, *contestant.leans_on())
        )
        return {"contestant": described(contestant), "leans_on": [self.key(other) for other in others]}

    def record(self, name: str, target: int, seed: int) -> tuple[str, Key]:
        """Where a contestant's results are kept, and what decides them."""
        key = {**self.key(name), **self.sets.judging(seed), "target": target}
        return f"{name}_{target}_seed{seed}", key

    def found(self, label: str, key: Key, search: Callable[[], Kept]) -> Found:
        """What `search` finds, with its seconds; looked for once."""

        def timed() -> Kept:
            start = time.perf_counter()
            numbers, tensors = search()
            return Kept({"numbers": dict(numbers), "seconds": time.perf_counter() - start}, tensors)

        numbers, tensors = self.store.keep(label, key, timed)
        return Found(numbers["numbers"], tensors, numbers["seconds"])

    def matched(
        self, label: str, key: Key, run_at: Callable[[float], Run], between: tuple[float, float], target: int
    ) -> Found:
        """`knob`: where `run_at` makes a mean of `target` calls on the matching set, or comes nearest."""
        whose = {**key, "knob": between}
        dial = self._dials.setdefault(json.dumps(whose), Dial(run_at, self.sets.matching, *between))
        turn = lambda: Kept({"knob": dial.turn(target)}, {})  # noqa: E731
        return self.found(f"{label}_knob_{target}", {**whose, "target": target}, turn)

    def turning(self, targets: Sequence[int]) -> int:
        """About how many denoiser calls `matched` makes for these budgets."""
        return self.sets.sizes.matching * (ALL_THE_WAY + TURNS * sum(targets))

    def static_times(self, num_steps: int) -> Float[Tensor, "N+1"]:
        """The baseline's times, from where the path begins to 0."""
        return self.runner.t_max * self._static(num_steps)[0].float()

    def static_seconds(self, num_steps: int) -> float:
        """That finding them took."""
        return self._static(num_steps)[1]

    def _static(self, num_steps: int) -> tuple[Levels, float]:
        schedule = self.contestants[self.baseline]
        assert isinstance(schedule, Schedule), "no other is let in as the baseline"
        return schedule.find(self, num_steps)

    def rows(self, steps: Float[Tensor, "B"]) -> Float[Tensor, "B K+1"]:
        """For each sample the baseline's times of so many steps, zeros behind their end; of as many as it has
        where it has fewer."""
        most = self.longest(int(steps.max()))
        steps = steps.clamp(max=most)
        times = torch.zeros(most + 1, most + 1)
        for n in steps.unique().int().tolist():
            times[n, : n + 1] = self.static_times(n)
        return times[steps.long()]
