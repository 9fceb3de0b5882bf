"""The loop one would first write: an object per sample, all of them in the batch until the last has finished.

What rollouts, replays and updates are timed against, and a second opinion on what they compute.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta

from tpdm.objective.ppo import ppo_clip
from tpdm.sampler.adaptive import AdaptiveSampler, Draw
from tpdm.sampler.step import Past, remember
from tpdm.scheduler.path import by_noise_level, retimed
from tpdm.trainer.predictor import PredictorTrainer
from tpdm.types import Condition, DenoiserLike, Features, Prediction, TimePredictor


@dataclass(frozen=True)
class Drawn:
    """What scoring a draw again needs."""

    features: Features
    t: Float[Tensor, "1"]
    ratio: Float[Tensor, "1"]
    log_prob: Float[Tensor, "1"]


@dataclass
class Walker:
    """One sample on its way: a batch of one."""

    x: Float[Tensor, "1 C H W"]
    t: Float[Tensor, "1"]
    past: Past | None = None
    nfe: int = 0
    drawn: list[Drawn] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.t.item() == 0


@torch.no_grad()
def plain_rollout(
    sampler: AdaptiveSampler,
    predictor: TimePredictor,
    denoiser: DenoiserLike,
    noise: Float[Tensor, "B C H W"],
    cond: Condition,
    draw: Draw,
) -> list[Walker]:
    """The trajectories of `sampler.rollout`."""
    denoiser, path = retimed(denoiser), by_noise_level(denoiser.scheduler)
    walkers = [Walker(x, x.new_full((1,), path.t_max)) for x in noise.split(1)]
    for k in range(sampler.max_steps):
        if all(walker.finished for walker in walkers):
            break
        x = torch.cat([walker.x for walker in walkers])
        t = torch.cat([walker.t for walker in walkers])
        p = denoiser(x, t, cond)
        dist = predictor(p.features, t)
        for b, walker in enumerate(walkers):
            if walker.finished:
                continue
            row = torch.tensor([b], device=noise.device)
            own = Prediction(p.x0[row], p.eps[row], p.features[row])
            if k + 1 < sampler.max_steps:
                beta = Beta(dist.concentration1[row], dist.concentration0[row])
                t_next = next_time(walker, own.features, beta, draw(beta, row), sampler)
            else:
                t_next = torch.zeros_like(walker.t)
            walker.x = sampler.step(path, own, walker.t, t_next, walker.past)
            walker.past = remember(own, walker.t, walker.past)
            walker.t = t_next
            walker.nfe += 1
    return walkers


def next_time(
    walker: Walker, features: Features, beta: Beta, ratio: Float[Tensor, "1"], sampler: AdaptiveSampler
) -> Float[Tensor, "1"]:
    """Where the draw leads; the walker remembers it."""
    ratio = ratio.clamp(sampler.min_ratio, sampler.max_ratio)
    walker.drawn.append(Drawn(features, walker.t, ratio, beta.log_prob(ratio)))
    t_next = walker.t * ratio
    return t_next if t_next.item() >= sampler.t_min else torch.zeros_like(t_next)


def plain_replay(predictor: TimePredictor, walkers: list[Walker]) -> Float[Tensor, "B"]:
    """log p of each trajectory under `predictor`, step by step."""
    totals = []
    for walker in walkers:
        total = torch.zeros_like(walker.t)
        for drawn in walker.drawn:
            total = total + predictor(drawn.features, drawn.t).log_prob(drawn.ratio)
        totals.append(total)
    return torch.cat(totals)


def plain_improve(
    predictor: nn.Module,
    optimizer: torch.optim.Optimizer,
    walkers: list[Walker],
    advantage: Float[Tensor, "B"],
    trainer: PredictorTrainer,
) -> None:
    """The passes of `PredictorTrainer.improve` over all trajectories, one after the other, step by step."""
    with torch.no_grad():
        old = plain_replay(predictor, walkers)
    for _ in range(trainer.epochs):
        for walker, old_log_prob, worth in zip(walkers, old.split(1), advantage.split(1), strict=True):
            loss = torch.zeros_like(worth)
            log_prob = torch.zeros_like(worth)
            for drawn in walker.drawn:
                dist = predictor(drawn.features, drawn.t)
                log_prob = log_prob + dist.log_prob(drawn.ratio)
                loss = loss - trainer.entropy * dist.entropy()
            loss = loss + ppo_clip(log_prob, old_log_prob, worth, trainer.clip)
            (loss.sum() / len(walkers)).backward()
        nn.utils.clip_grad_norm_(predictor.parameters(), trainer.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
