"""Predictors that are told what a step costs, and the mean number of calls that each cost leads to."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta

from tpdm.registry import build, facts, lookup
from tpdm.types import CostRange, Features, FeatureSpec, TimePredictor

BUDGET = "budget"  # in a predictor's folder, beside its settings; in a table's summary, beside the table


@dataclass(frozen=True)
class AtCost:
    """A predictor that is told one cost whatever the sample: to whoever asks, one that is told none."""

    predictor: TimePredictor
    cost: float

    def __call__(self, features: Features, t: Float[Tensor, "B"], cost: Tensor | None = None) -> Beta:
        assert cost is None, "it has been told"
        return self.predictor(features, t, torch.full_like(t, self.cost))


@dataclass(frozen=True)
class Budget:
    """Which costs a predictor hears, and the mean NFE that some of them led to on held-out conditions.

    `cost` rises and `nfe` falls, both strictly.
    """

    costs: CostRange
    cost: Sequence[float]
    nfe: Sequence[float]

    @classmethod
    def fit(cls, costs: CostRange, seen: Mapping[float, float]) -> "Budget":
        """From measured means, by cost: the least-squares curve that never rises (isotonic regression).

        Costs that share a mean in it become one, at their geometric middle.
        """
        from scipy.optimize import isotonic_regression

        cost = sorted(seen)
        fitted = isotonic_regression([seen[c] for c in cost], increasing=False)
        starts = fitted.blocks.tolist()  # where each run of equal means begins, and the end
        blocks = [cost[start:end] for start, end in pairwise(starts)]
        middles = [math.exp(math.fsum(map(math.log, block)) / len(block)) for block in blocks]
        return cls(costs, middles, [float(fitted.x[start]) for start in starts[:-1]])

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "Budget":
        """The inverse of `dataclasses.asdict`."""
        return cls(CostRange(**kept["costs"]), kept["cost"], kept["nfe"])

    def at(self, predictor: TimePredictor, nfe: float | None, cost: float | None) -> AtCost:
        """The predictor at a mean NFE or at a cost, in the middle of its costs where neither is given.

        Raises ValueError where both are, or it is out of the range.
        """
        if nfe is not None and cost is not None:
            raise ValueError(f"nfe={nfe:.15g} and cost={cost:.15g} are given; give one of them")
        if cost is not None and not self.costs.low <= cost <= self.costs.high:
            raise ValueError(
                f"cost={cost:.15g} is no cost that the predictor was trained at; "
                f"accepted: {self.costs.low:.15g} to {self.costs.high:.15g}"
            )
        if nfe is not None:
            cost = self.cost_of(nfe)
        return AtCost(predictor, self.costs.middle if cost is None else cost)

    def cost_of(self, nfe: float) -> float:
        """Between measured means by the logarithms of both. ValueError for a mean that no cost led to."""
        if not self.nfe[-1] <= nfe <= self.nfe[0]:
            low, high = math.ceil(100 * self.nfe[-1]) / 100, math.floor(100 * self.nfe[0]) / 100
            accepted = f"accepted: {low:g} to {high:g}"
            raise ValueError(f"nfe={nfe:.15g} is no mean that the predictor was calibrated for; {accepted}")
        if nfe in self.nfe:
            return self.cost[self.nfe.index(nfe)]
        right = max(bisect_left(self.nfe, -nfe, key=lambda n: -n), 1)
        (n0, n1), (c0, c1) = self.nfe[right - 1 : right + 1], self.cost[right - 1 : right + 1]
        return c0 * (c1 / c0) ** (math.log(n0 / nfe) / math.log(n0 / n1))


def check_cap(nfe: float | None, max_nfe: int | None) -> None:
    """Raises ValueError for a mean that is above what any sample may take."""
    if nfe is not None and max_nfe is not None and nfe > max_nfe:
        raise ValueError(
            f"nfe={nfe:.15g} is no mean of at most max_nfe={max_nfe} calls; accepted: up to {max_nfe}"
        )


def costs_of(reward: Mapping[str, Any]) -> CostRange | None:
    """What a predictor is told of a step's cost under this reward: nothing, where it is always the same."""
    cost = reward["cost"]
    return CostRange(cost["low"], cost["high"]) if cost["name"] == "drawn" else None


def build_predictor(cfg: Mapping[str, Any], features: FeatureSpec, costs: CostRange | None) -> nn.Module:
    """Raises ValueError where there are costs to tell, and this one listens to none."""
    if costs is not None and "costs" not in facts(lookup("predictor", cfg["name"])):
        raise ValueError(
            f"predictor={cfg['name']} is told no cost of a step, and reward/cost=drawn draws one to tell; "
            "use reward/cost=linear, or predictor=vit, cnn or hybrid"
        )
    made: nn.Module = build("predictor", cfg, features=features, costs=costs)
    return made


def kept_budget(config: Mapping[str, Any]) -> Budget | None:
    """Of the config in a predictor's folder; None where it was trained at one cost."""
    return Budget.read(config[BUDGET]) if BUDGET in config else None


def at_budget(
    predictor: TimePredictor, config: Mapping[str, Any], nfe: float | None, cost: float | None
) -> TimePredictor:
    """The predictor with this config told one cost, where it is told any. ValueError where it is not."""
    budget = kept_budget(config)
    if budget is not None:
        return budget.at(predictor, nfe, cost)
    for key, value in (("nfe", nfe), ("cost", cost)):
        if value is not None:
            raise ValueError(
                f"{key}={value:.15g} asks for a budget, and this predictor was trained at one cost of a "
                "step; train with reward/cost=drawn, or cap its calls with max_nfe"
            )
    return predictor
