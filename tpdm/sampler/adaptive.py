"""Times drawn sample by sample: the rollout, and the sampler that runs a trained predictor."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta

from tpdm.registry import Positive, Range, register
from tpdm.sampler.integrate import Step, integrate, name_of
from tpdm.sampler.noise import generators
from tpdm.sampler.step import Past
from tpdm.types import (
    Condition,
    DenoiserLike,
    Features,
    KeptFeatures,
    Prediction,
    Rollout,
    TimePredictor,
    Trajectory,
)

Draw = Callable[[Beta, Tensor], Tensor]  # (distribution over R rows, which samples they are) -> ratio (R,)


@register("sampler", "adaptive")
class AdaptiveSampler:
    """The predictor decides: t_next = ratio * t, until it falls below t_min or the steps run out.

    `draw` is what sampling does with the Beta: its mode, or a draw from it. `end` is where the last step
    leads: to the data, or to the time that was chosen, as the published sampler does, which keeps the noise
    that is left there. `max_nfe` is a cap that is kept in view: no next time is above the one that
    even steps over the calls left would visit. Raises ValueError where the bounds of the ratio are not
    ordered.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        max_steps: Positive[int],
        t_min: Annotated[float, Range(above=0, below=1)],
        min_ratio: Annotated[float, Range(above=0, below=1)],
        max_ratio: Annotated[float, Range(above=0, below=1)],
        draw: Literal["mode", "sample"],
        end: Literal["data", "residual"],
        *,
        predictor: TimePredictor | None = None,
        max_nfe: int | None = None,
    ):
        if min_ratio >= max_ratio:
            raise ValueError(f"sampler.min_ratio={min_ratio} is not below sampler.max_ratio={max_ratio}")
        self.step: Step = step
        self.max_steps, self.t_min = max_steps, t_min
        self.min_ratio, self.max_ratio = min_ratio, max_ratio
        self.draw, self.end = draw, end
        self.predictor, self.max_nfe = predictor, max_nfe

    def __call__(
        self, denoiser: DenoiserLike, noise: Float[Tensor, "B C H W"], cond: Condition, seeds: Sequence[int]
    ) -> Trajectory:
        if self.predictor is None:
            raise ValueError(
                "sampler=adaptive needs a trained predictor; choose a fixed sampler, such as sampler=euler"
            )
        draw = mode if self.draw == "mode" else sample_by_seed(seeds)
        return self.rollout(self.predictor, denoiser, noise, cond, draw, keep_features=False).trajectory

    @property
    def step_name(self) -> str:
        return name_of(self.step)

    @torch.no_grad()
    def rollout(
        self,
        predictor: TimePredictor,
        denoiser: DenoiserLike,
        noise: Float[Tensor, "B C H W"],
        cond: Condition,
        draw: Draw,
        keep_features: bool = True,
        cost: Float[Tensor, "B"] | None = None,
    ) -> Rollout:
        """Draws a trajectory for every row of `noise`, keeping each draw so that `replay` can score it.

        `cost` is of a step of each row, for a predictor that is told it.
        """
        ratio = torch.ones(len(noise), self.max_steps, device=noise.device)
        log_prob = torch.zeros_like(ratio)
        drawn = torch.zeros_like(ratio, dtype=torch.bool)
        kept: list[Features] = []
        digest = getattr(predictor, "digest", whole) if keep_features else whole

        def next_time(p: Prediction, t: Tensor, rows: Tensor, k: int, past: Past | None) -> Tensor:
            features = digest(p.features)
            dist = asked(predictor, features, t, cost, rows)
            r = draw(dist, rows).clamp(self.min_ratio, self.max_ratio)
            ratio[rows, k], log_prob[rows, k], drawn[rows, k] = r, dist.log_prob(r), True
            if keep_features:
                kept.append(features)
            return t * r if self.max_nfe is None else torch.minimum(t * r, t * (1 - 1 / (self.max_nfe - k)))

        bounds = (min(self.max_steps, self.max_nfe or self.max_steps), self.t_min, self.end == "residual")
        trajectory = integrate(denoiser, noise, cond, next_time, self.step, *bounds)
        k = trajectory.alive.shape[1]
        features = KeptFeatures.whole(kept) if kept else None
        return Rollout(trajectory, ratio[:, :k], log_prob[:, :k], drawn[:, :k], features, cost)


def asked(predictor: TimePredictor, features: Features, t: Tensor, cost: Tensor | None, rows: Tensor) -> Beta:
    """Its answer for these rows, each told its own cost where costs are told."""
    return predictor(features, t) if cost is None else predictor(features, t, cost[rows])


def whole(features: Features) -> Features:
    """What a predictor needs that does not say what it needs."""
    return features


def mode(dist: Beta, rows: Tensor) -> Tensor:
    """The ratio of highest density, what a trained predictor is judged by."""
    return dist.mode


def sample(generator: torch.Generator) -> Draw:
    """Draws from the Beta as a quotient of Gammas, by a generator, which torch.distributions cannot take."""

    def draw(dist: Beta, rows: Tensor) -> Tensor:
        both = torch.stack([dist.concentration1, dist.concentration0])
        gamma = torch._standard_gamma(both.to(generator.device), generator)
        return (gamma[0] / gamma.sum(0)).to(both.device)

    return draw


def sample_by_seed(seeds: Sequence[int]) -> Draw:
    """Draws with one generator per sample, so that neither batch size nor order matters."""
    draws = [sample(generator) for generator in generators(seeds, stream=2)]

    def draw(dist: Beta, rows: Tensor) -> Tensor:
        one_by_one = zip(rows.tolist(), dist.concentration1.cpu(), dist.concentration0.cpu(), strict=True)
        ratio = [draws[row](Beta(c1[None], c0[None]), rows) for row, c1, c0 in one_by_one]
        return torch.cat(ratio).to(dist.concentration1.device)

    return draw
