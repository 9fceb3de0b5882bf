"""Where a contestant stands: its error beside that of the best static schedule at the same mean calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.arena.bootstrap import interval, resampled, trimmed_mean
from tpdm.arena.borrowed import MeanSchedule
from tpdm.arena.contestant import Kind, Outcome
from tpdm.arena.ring import Ring

Below = Callable[[Ring, Outcome, Float[Tensor, "D B"]], Float[Tensor, "D"]]
DRAWS, LEVEL = 2000, 0.95  # drawings of the samples; what share of them an interval holds
SAME = 5e-4  # nearer to 1 than this, a ratio shows no difference of schedules
TRIMMED = 0.02  # of the samples left out at each end, in the mean beside the mean


class Ratio(NamedTuple):
    """One mean error over another, and the interval that it lies in."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """better, worse, or ties: the interval holds 1, or is as near to it as rounding may bring it."""
        return "better" if self.high < 1 - SAME else "worse" if self.low > 1 + SAME else "ties"

    @property
    def same(self) -> bool:
        """Whether the interval holds no difference, as where the other's own schedules are played."""
        return max(1 - self.low, self.high - 1) <= SAME


@dataclass(frozen=True)
class Standing:
    """A contestant at one budget, on the samples of one seed or of all (None)."""

    contestant: str
    kind: Kind
    target: int
    seed: int | None
    nfe: float
    nfe_std: float
    mse: float
    trimmed: float
    scores: Mapping[str, float]
    finding_s: float
    against_static: Ratio
    against_mean: Ratio | None  # its own mean schedule, where that takes part
    calls: float | None = None  # of the denoiser, that take as long as this does
    call_s: float = 0.0  # of one call, for an image

    @property
    def seconds(self) -> float | None:
        """Of an image."""
        return self.calls and self.calls * self.call_s

    def cells(self) -> dict[str, Any]:
        """For a table."""
        return {
            "contestant": self.contestant,
            "kind": self.kind,
            "target": self.target,
            "seed": "all" if self.seed is None else self.seed,
            "nfe": self.nfe,
            "nfe_std": self.nfe_std,
            "mse": self.mse,
            "mse_trimmed": self.trimmed,
            **self.scores,
            "time_in_calls": self.calls,
            "seconds_per_image": self.seconds,
            "finding_s": self.finding_s,
            **_spread("vs_static", self.against_static),
            **_spread("vs_own_mean", self.against_mean),
        }


def _spread(name: str, ratio: Ratio | None) -> dict[str, float | None]:
    return {
        name: ratio and ratio.value,
        f"{name}_low": ratio and ratio.low,
        f"{name}_high": ratio and ratio.high,
    }


def standing(rings: Sequence[Ring], name: str, target: int, seed: int | None) -> Standing:
    """Of one ring, or of several together, whose samples are drawn again each among themselves."""
    outcomes = [ring.played(name, target) for ring in rings]
    nfe, error = (torch.cat([getattr(outcome, key) for outcome in outcomes]) for key in ("nfe", "error"))
    return Standing(
        name,
        rings[0].camp.contestants[name].kind,
        target,
        seed,
        nfe.mean().item(),
        nfe.std(correction=0).item(),
        error.mean().item(),
        trimmed_mean(error, TRIMMED),
        {key: mean([outcome.scores[key] for outcome in outcomes]) for key in outcomes[0].scores},
        mean([ring.finding_s(name, target) for ring in rings]),
        against_static(rings, outcomes),
        against_mean(rings, name, target, outcomes),
    )


def against_static(rings: Sequence[Ring], outcomes: Sequence[Outcome]) -> Ratio:
    """Each seed's baseline stands at the contestant's own mean calls there, also in every drawing."""
    return ratio(rings, outcomes, static_at)


def against_mean(rings: Sequence[Ring], name: str, target: int, outcomes: Sequence[Outcome]) -> Ratio | None:
    means = [
        other
        for other, contestant in rings[0].camp.contestants.items()
        if isinstance(contestant, MeanSchedule) and contestant.of == name
    ]
    if not means or rings[0].camp.absence(means[0], target):
        return None

    def below(ring: Ring, outcome: Outcome, shares: Float[Tensor, "D B"]) -> Float[Tensor, "D"]:
        """In a drawing, where the two are not even, the baseline says what the calls between are worth."""
        own = ring.played(means[0], target)
        worth = static_at(ring, outcome, shares) / static_at(ring, own, shares)
        return worth * (shares @ own.error.double())

    return ratio(rings, outcomes, below)


def static_at(ring: Ring, outcome: Outcome, shares: Float[Tensor, "D B"]) -> Float[Tensor, "D"]:
    """The baseline's error at the mean calls of an outcome: in each drawing from the two lengths around."""
    nfe = outcome.nfe.double()
    means = nfe.mean() + shares @ (nfe - nfe.mean())  # exactly whole where all take the same number
    under = torch.empty_like(means)
    for whole in means.floor().unique().tolist():
        at = means.floor() == whole
        low, high = ring.static_around(whole)
        over, drawn = means[at] - whole, shares[at]
        under[at] = (1 - over) * (drawn @ low.error.double()) + over * (drawn @ high.error.double())
    return under


def ratio(rings: Sequence[Ring], outcomes: Sequence[Outcome], below: Below) -> Ratio:
    """`below(ring, outcome, shares)` is the mean error under the line, for each drawing's shares."""
    parts = []
    for ring, outcome in zip(rings, outcomes, strict=True):
        size = len(outcome.error)
        all_alike = torch.full((1, size), 1 / size, dtype=torch.float64)
        shares = torch.cat([all_alike, resampled(size, DRAWS, ring.seed)])
        parts.append((shares @ outcome.error.double(), below(ring, outcome, shares)))
    above, under = (torch.stack(side).sum(0) for side in zip(*parts, strict=True))
    value, drawn = (above / under)[0].item(), (above / under)[1:]
    return Ratio(value, *interval(drawn, LEVEL))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
