"""A rollout and its replay, against the plain loop and against what the networks alone need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta

from tpdm.data.loader import Data
from tpdm.registry import Positive, register
from tpdm.sampler.adaptive import AdaptiveSampler, sample
from tpdm.sampler.replay import replay
from tpdm.suite.plain import Walker, plain_replay, plain_rollout
from tpdm.suite.ratio import Measured, Ratio
from tpdm.types import DataShape, DenoiserLike, Rollout, TimePredictor

Made = TypeVar("Made")


@register("suite", "rollout")
class RolloutSuite:
    """Every contestant takes its turn in every repeat, with the same noise and the same draws.

    Raises ValueError where the sampler asks no predictor.
    """

    def __init__(
        self,
        batch_size: Positive[int],
        repeats: Positive[int],
        *,
        denoiser: DenoiserLike,
        predictor: TimePredictor,
        sampler: AdaptiveSampler,
        data: Data,
        shape: DataShape,
        seed: int,
        device: torch.device,
    ):
        if not isinstance(sampler, AdaptiveSampler):
            raise ValueError("suite=rollout times draws of a predictor; use sampler=adaptive")
        generator = torch.Generator().manual_seed(seed)
        self.repeats, self.device, self.generator = repeats, device, generator
        self.denoiser, self.predictor, self.sampler = denoiser, predictor, sampler
        self.cond = data.batch(batch_size, generator)[1].to(device)
        self.noise = torch.randn(batch_size, *shape, generator=generator).to(device)

    def __call__(self) -> Measured:
        start = (self.noise, self.cond)
        first = self.sampler.rollout(self.predictor, self.denoiser, *start, sample(self.generator))
        self.repeat(first.ratio)  # warms up caches of kernels and of memory
        seconds = [self.repeat(first.ratio) for _ in range(self.repeats)]

        def ratio(slow: str, fast: str) -> list[float]:
            return [each[slow] / each[fast] for each in seconds]

        ratios = [
            Ratio("plain loop / rollout", ratio("plain rollout", "rollout"), "at least", 2.5),
            Ratio("plain replay / replay", ratio("plain replay", "replay"), "at least", 4.0),
            Ratio("rollout / its networks alone", ratio("rollout", "networks"), "at most", 1.10),
        ]
        by_name = {name: [each[name] for each in seconds] for name in seconds[0]}
        return Measured(ratios, {**work(first), "seconds": by_name})

    def repeat(self, ratio: Float[Tensor, "B K"]) -> dict[str, float]:
        """Seconds of each contestant, each once."""
        parts, start = (self.predictor, self.denoiser), (self.noise, self.cond)
        seconds: dict[str, float] = {}

        def timed(name: str, action: Callable[[], Made]) -> Made:
            made, seconds[name] = stopped(action, self.device)
            return made

        rollout = timed("rollout", lambda: self.sampler.rollout(*parts, *start, Recorded(ratio)))
        rows = rows_of(rollout)
        timed("networks", lambda: self.networks(rows))
        walkers = timed("plain rollout", lambda: plain_rollout(self.sampler, *parts, *start, Recorded(ratio)))
        check_same_work(rollout, walkers)
        with torch.no_grad():
            timed("replay", lambda: replay(self.predictor, rollout))
            timed("plain replay", lambda: plain_replay(self.predictor, walkers))
        return seconds

    @torch.no_grad()
    def networks(self, rows: list[tuple[int, int]]) -> None:
        """Both networks and nothing else, at the batch sizes that the steps of a rollout gave them."""
        t = torch.full((len(self.noise),), 0.5, device=self.device)
        for alive, drawn in rows:
            p = self.denoiser(self.noise[:alive], t[:alive], self.cond[:alive])
            if drawn:
                self.predictor(p.features, t[:drawn])


class Recorded:
    """Hands every sample its own draws again, in their order."""

    def __init__(self, ratio: Float[Tensor, "B K"]):
        self.ratio = ratio
        self.taken = torch.zeros(len(ratio), dtype=torch.long, device=ratio.device)

    def __call__(self, dist: Beta, rows: Tensor) -> Tensor:
        k = self.taken[rows]
        self.taken[rows] = k + 1
        return self.ratio[rows, k]


def stopped(action: Callable[[], Made], device: torch.device) -> tuple[Made, float]:
    """What the action made, and the seconds until the device had done it."""
    start = time.perf_counter()
    made = action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return made, time.perf_counter() - start


def rows_of(rollout: Rollout) -> list[tuple[int, int]]:
    """For each step, how many rows the denoiser and the predictor were given."""
    alive, drawn = rollout.trajectory.alive.sum(0), rollout.drawn.sum(0)
    return list(zip(alive.tolist(), drawn.tolist(), strict=True))


def check_same_work(rollout: Rollout, walkers: list[Walker]) -> None:
    nfe = rollout.trajectory.nfe.tolist()
    assert nfe == [walker.nfe for walker in walkers], "the plain loop walked other trajectories"


def work(rollout: Rollout) -> dict[str, float]:
    nfe = rollout.trajectory.nfe
    return {
        "batch": len(nfe),
        "rows": int(nfe.sum()),
        "steps": int(nfe.max()),
        "mean_nfe": round(nfe.float().mean().item(), 2),
        "shortest": int(nfe.min()),
        "longest": int(nfe.max()),
    }
