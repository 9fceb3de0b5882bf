"""Denoiser: a backbone on a noise path, answering with both ends of it. Guided: the same under guidance."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.guidance import Constant
from tpdm.scheduler.ddpm import VariancePreserving
from tpdm.scheduler.path import ends, expand, raw_output
from tpdm.scheduler.variance import hybrid_loss
from tpdm.types import Condition, DenoiserLike, Guidance, Prediction, Scheduler, cat_conditions

EVERYWHERE = Constant(channels=None)


class Denoiser(nn.Module):
    """(x, t, cond) -> Prediction. The network runs in its own precision; x0 and eps are float32."""

    def __init__(self, backbone: nn.Module, scheduler: Scheduler):
        super().__init__()
        self.backbone: Any = backbone
        self.scheduler = scheduler

    def forward(self, x: Float[Tensor, "B C H W"], t: Float[Tensor, "B"], cond: Condition) -> Prediction:
        raw, features = self.backbone(x, self.scheduler.timestep(t), cond)
        raw = raw.float()
        x0, eps = ends(self.scheduler.predicts, self.scheduler(t), x, raw)
        learned = self.scheduler.predicts == "eps_and_variance"
        return Prediction(x0, eps, features, raw[:, x.shape[1] :] if learned else None)

    def loss(
        self,
        x0: Float[Tensor, "B C H W"],
        eps: Float[Tensor, "B C H W"],
        t: Float[Tensor, "B"],
        cond: Condition,
    ) -> Float[Tensor, "B"]:
        """Mean squared error of the raw output: conditional flow matching (Lipman et al. 2023, eq. 9) for a
        velocity, L_simple (Ho et al. 2020, eq. 14) for eps; plus the bound where a variance is learned."""
        c = self.scheduler(t)
        x = expand(c.alpha, x0) * x0 + expand(c.sigma, x0) * eps
        raw, _ = self.backbone(x, self.scheduler.timestep(t), cond)
        if self.scheduler.predicts == "eps_and_variance":
            assert isinstance(self.scheduler, VariancePreserving), "no other path accepts it"
            return hybrid_loss(self.scheduler, x0, eps, x, t, raw.float())
        target = raw_output(self.scheduler.predicts, c, x0, eps)
        return (raw.float() - target).square().flatten(1).mean(1)


class Guided(nn.Module):
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6): uncond + guidance_scale * (cond - uncond).

    The unconditional half comes first in the doubled batch. `guidance` may weaken the scale along the path,
    and leave some channels as conditioned. Features are combined with the same weights, all of them; a
    learned variance stays that of the condition, as DiT's code has it.
    """

    null_cond: Condition

    def __init__(
        self,
        denoiser: DenoiserLike,
        guidance_scale: float,
        guidance: Guidance = EVERYWHERE,
        *,
        null_cond: Condition,
    ):
        super().__init__()
        self.denoiser: Any = denoiser
        self.scheduler = denoiser.scheduler
        self.guidance_scale, self.guidance = guidance_scale, guidance
        self.null_cond = null_cond

    def forward(self, x: Float[Tensor, "B C H W"], t: Float[Tensor, "B"], cond: Condition) -> Prediction:
        null = self.null_cond.to(x.device)  # one row, or as many as there are samples
        null = null.repeat_interleave(len(x) // len(null), 0)
        both = cat_conditions([null, cond])
        x0, eps, features, variance = self.denoiser(torch.cat([x, x]), torch.cat([t, t]), both)
        weight = self.guidance.weight(self.guidance_scale, self.scheduler.timestep(t))
        x0, eps = (self.on_channels(both, weight) for both in (x0, eps))
        features = features.map(lambda both: combine(both, weight))
        return Prediction(x0, eps, features, None if variance is None else variance[len(x) :])

    def on_channels(
        self, both: Float[Tensor, "2B C H W"], weight: Float[Tensor, "B"]
    ) -> Float[Tensor, "B C H W"]:
        every, first = combine(both, weight), self.guidance.channels
        return every if first is None else torch.cat([every[:, :first], both[len(every) :, first:]], dim=1)


def combine(both: Tensor, weight: Float[Tensor, "B"]) -> Tensor:
    """uncond + weight * (cond - uncond) of the two halves of a doubled batch."""
    uncond, cond = both.chunk(2)
    return torch.lerp(uncond, cond, expand(weight.to(both), cond))


def guided(
    denoiser: DenoiserLike, guidance_scale: float, guidance: Guidance = EVERYWHERE, *, null_cond: Condition
) -> DenoiserLike:
    """The denoiser itself at a scale of 1, where guidance is off and the second pass would be wasted."""
    return (
        denoiser if guidance_scale == 1 else Guided(denoiser, guidance_scale, guidance, null_cond=null_cond)
    )
