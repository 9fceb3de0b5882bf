"""One seed of the arena: noises and conditions that nobody has seen, and what contestants make of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.arena.camp import Camp
from tpdm.arena.contestant import Outcome, Share
from tpdm.arena.store import Kept
from tpdm.evaluation.result import Problems, Run, measure
from tpdm.evaluation.schedule import along
from tpdm.evaluation.table import Judge, neighbours


class Ring:
    """Contestants come from `camp` and are asked by name; their results are kept in its store, too."""

    def __init__(self, seed: int, camp: Camp, evaluation: Problems, judge: Judge):
        self.seed, self.camp, self.evaluation, self.judge = seed, camp, evaluation, judge
        self._played: dict[tuple[str, int], Outcome] = {}

    def played(self, name: str, target: int) -> Outcome:
        """What a contestant makes of the evaluation set at a mean of `target` calls."""
        if (name, target) not in self._played:
            kept = self.camp.store.keep(
                *self.camp.record(name, target, self.seed), lambda: self._play(name, target)
            )
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

    def _play(self, name: str, target: int) -> Kept:
        entry = self.camp.contestants[name].enter(self, target)
        decode = self.camp.runner.decode
        weights = [share.weight for share in entry.shares]
        results = [measure(share.run, self.evaluation, decode) for share in entry.shares]
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

    def finding_s(self, name: str, target: int) -> float:
        """Seconds that finding it took, those of all that it leans on in them."""
        others = self.camp.contestants[name].leans_on()
        return self.played(name, target).seconds + sum(self.finding_s(other, target) for other in others)

    def along(self, t: Float[Tensor, "N+1"] | Float[Tensor, "B K+1"]) -> Run:
        """The run's own step over given times: one row for all, or one for each evaluation sample."""
        return along(self.camp.runner.denoiser, self.camp.runner.step, t, self.evaluation.seeds)

    def static(self, num_steps: int) -> Outcome:
        """The baseline with so many steps."""
        return self.played(self.camp.baseline, num_steps)

    def static_around(self, mean: float) -> tuple[Outcome, Outcome]:
        """The baseline with as many whole steps as a mean holds, and with one more; twice its longest where
        the mean lies beyond."""
        low, high = (self.static(self.camp.longest(n)) for n in neighbours(mean))
        return low, high


def weighted(weights: list[float], values: list[Tensor]) -> Tensor:
    return torch.stack([w * x for w, x in zip(weights, values, strict=True)]).sum(0)


def around(mean: float) -> dict[int, float]:
    """The whole numbers of steps around a mean, each with its share of the samples; one where it is whole."""
    low, high = neighbours(mean)
    upper = max(mean - low, 0.0)
    return {low: 1 - upper, high: upper} if upper else {low: 1.0}


def shared(mean: float, run_with: Callable[[int], Run]) -> list[Share]:
    """Samplers of the whole numbers of steps around a mean, each for its share."""
    return [Share(share, run_with(n)) for n, share in around(mean).items()]
