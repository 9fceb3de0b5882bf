"""One seed of the arena: what contestants work with there, and what they made of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.arena.contestant import Contestant, Outcome, Share
from tpdm.arena.matching import Dial
from tpdm.arena.sets import Sets
from tpdm.arena.store import Kept, Key, Store, described
from tpdm.evaluation.result import Run, measure
from tpdm.evaluation.schedule import along
from tpdm.evaluation.table import Judge, neighbours
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.integrate import Step
from tpdm.scheduler.path import by_noise_level
from tpdm.types import CostRange, DenoiserLike, TimePredictor


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

    @property
    def t_max(self) -> float:
        """The noise level where its path begins."""
        return by_noise_level(self.denoiser.scheduler).t_max


class Found(NamedTuple):
    """What a search left, and how long it took when it was done."""

    numbers: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    seconds: float


class Ring:
    """Contestants are asked by name; what they find and make is kept in `store` as soon as it is there.

    `baseline` is the static schedule, for every number of steps, that all are held against.
    """

    def __init__(
        self,
        seed: int,
        runner: Runner,
        sets: Sets,
        judge: Judge,
        contestants: Mapping[str, Contestant],
        baseline: str,
        store: Store,
    ):
        self.seed, self.runner, self.sets, self.judge = seed, runner, sets, judge
        self.contestants, self.baseline, self.store = contestants, baseline, store
        self._played: dict[tuple[str, int], Outcome] = {}
        self._dials: dict[str, Dial] = {}

    def played(self, name: str, target: int) -> Outcome:
        """What a contestant makes of the evaluation set at a mean of `target` calls."""
        if (name, target) not in self._played:
            kept = self.store.keep(*self._record(name, target), lambda: self._play(name, target))
            numbers, tensors = kept
            self._played[name, target] = Outcome(
                tensors["nfe"],
                tensors["error"],
                tensors["t"],
                {key: math.nan if x is None else x for key, x in numbers["scores"].items()},
                numbers["found"],
                numbers["seconds"],
            )
        return self._played[name, target]

    def _record(self, name: str, target: int) -> tuple[str, Key]:
        return f"{name}_{target}_seed{self.seed}", self.key(name) | {"seed": self.seed, "target": target}

    def key(self, name: str) -> dict[str, Any]:
        """All that decides a contestant's results: its choices, and those of whom it leans on."""
        contestant = self.contestants[name]
        others = (
            contestant.leans_on() if contestant.kind == "static" else (self.baseline, *contestant.leans_on())
        )
        return {"contestant": described(contestant), "leans_on": [self.key(other) for other in others]}

    def _play(self, name: str, target: int) -> Kept:
        entry = self.contestants[name].enter(self, target)
        weights = [share.weight for share in entry.shares]
        results = [measure(share.run, self.sets.evaluation, self.runner.decode) for share in entry.shares]
        scores = [self.judge.row(name, result).scores for result in results]
        mixed = {
            key: sum(w * score[key] for w, score in zip(weights, scores, strict=True)) for key in scores[0]
        }
        numbers = {
            "scores": {key: x if math.isfinite(x) else None for key, x in mixed.items()},
            "found": dict(entry.found),
            "seconds": entry.seconds,
        }
        tensors = {
            "nfe": weighted(weights, [result.nfe.float() for result in results]),
            "error": weighted(weights, [result.squared_error for result in results]),
            "t": results[0].t,
        }
        return Kept(numbers, {key: x.cpu().contiguous() for key, x in tensors.items()})

    def found(self, label: str, key: Key, search: Callable[[], Kept]) -> Found:
        """What `search` finds, with its seconds; looked for once."""

        def timed() -> Kept:
            start = time.perf_counter()
            numbers, tensors = search()
            return Kept({"numbers": dict(numbers), "seconds": time.perf_counter() - start}, tensors)

        numbers, tensors = self.store.keep(f"{label}_seed{self.seed}", {**key, "seed": self.seed}, timed)
        return Found(numbers["numbers"], tensors, numbers["seconds"])

    def matched(
        self, label: str, key: Key, run_at: Callable[[float], Run], between: tuple[float, float], target: int
    ) -> Found:
        """`knob`: where `run_at` makes a mean of `target` calls on the matching set, or comes nearest."""
        dial = self._dials.setdefault(label, Dial(run_at, self.sets.matching, *between))
        turn = lambda: Kept({"knob": dial.turn(target)}, {})  # noqa: E731
        return self.found(f"{label}_knob_{target}", {**key, "knob": between, "target": target}, turn)

    def along(self, t: Float[Tensor, "N+1"] | Float[Tensor, "B K+1"]) -> Run:
        """The run's own step over given times: one row for all, or one for each evaluation sample."""
        return along(self.runner.denoiser, self.runner.step, t, self.sets.evaluation.seeds)

    def rows(self, steps: Float[Tensor, "B"]) -> Float[Tensor, "B K+1"]:
        """For each sample the baseline's times of so many steps, zeros behind their end; of as many as it has
        where it has fewer."""
        most = int(steps.max())
        while self.contestants[self.baseline].absent(self, most):
            most -= 1
        steps = steps.clamp(max=most)
        times = torch.zeros(most + 1, most + 1)
        for n in steps.unique().int().tolist():
            times[n, : n + 1] = self.static_times(n)
        return times[steps.long()]

    def static(self, num_steps: int) -> Outcome:
        """The baseline with so many steps."""
        return self.played(self.baseline, num_steps)

    def static_around(self, mean: float) -> tuple[Outcome, Outcome, float]:
        """The baseline at the whole numbers of steps around a mean, and how far the mean is on the way."""
        low = max(1, math.floor(mean))
        over = mean - low
        if over == 0 or self.contestants[self.baseline].absent(self, low + 1):
            return self.static(low), self.static(low), 0.0
        return self.static(low), self.static(low + 1), over

    def static_times(self, num_steps: int) -> Float[Tensor, "N+1"]:
        """The baseline's times, from where the path begins to 0."""
        (levels,) = self.contestants[self.baseline].enter(self, num_steps).found["levels"]
        return self.runner.t_max * torch.tensor(levels)


def weighted(weights: list[float], values: list[Tensor]) -> Tensor:
    return torch.stack([w * x for w, x in zip(weights, values, strict=True)]).sum(0)


def shared(mean: float, run_with: Callable[[int], Run]) -> list[Share]:
    """The whole numbers of steps around a mean, each for its share of the samples; one where it is whole."""
    low, high = neighbours(mean)
    upper = max(mean - low, 0.0)
    return [Share(1 - upper, run_with(low)), *([Share(upper, run_with(high))] if upper else [])]
