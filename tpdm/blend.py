"""Blends of Gaussians, of which everything is known in closed form: draws, densities and posterior means."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.values import Positive

KINDS = ("easy", "hard")  # what a condition says of a sample, by its label


class Blend(NamedTuple):
    """K round Gaussians in d dimensions, and how often each is drawn under each of L conditions.

    The last row of `share` is that of no condition, all of them taken equally often.
    """

    mean: Float[Tensor, "K d"]
    std: Float[Tensor, "K"]
    share: Float[Tensor, "L+1 K"]  # rows sum to 1

    def draw(self, label: Int[Tensor, "n"], generator: torch.Generator) -> Float[Tensor, "n d"]:
        which = torch.multinomial(self.share[label], 1, generator=generator)[:, 0]
        noise = torch.randn(len(label), self.mean.shape[1], generator=generator)
        return self.mean[which] + self.std[which, None] * noise

    def posterior(
        self,
        x: Float[Tensor, "B d"],
        alpha: Float[Tensor, "B"],
        sigma: Float[Tensor, "B"],
        label: Int[Tensor, "B"],
    ) -> Posterior:
        """What is known of both ends of a path through x = alpha x0 + sigma eps."""
        aside = x[:, None] - alpha[:, None, None] * self.mean  # (B, K, d)
        variance = (alpha[:, None] * self.std) ** 2 + sigma[:, None] ** 2  # (B, K), of x in a component
        logits = self.share[label].log() + log_normal(aside, variance)
        belongs = logits.softmax(1)
        x0 = self.mean + (alpha[:, None] * self.std**2 / variance)[..., None] * aside
        eps = (sigma[:, None] / variance)[..., None] * aside
        weight = belongs[..., None]
        return Posterior((weight * x0).sum(1), (weight * eps).sum(1), belongs, logits.logsumexp(1))


class Posterior(NamedTuple):
    """Means of both ends given x, which component x0 belongs to, and the log-density of x itself."""

    x0: Float[Tensor, "B d"]
    eps: Float[Tensor, "B d"]  # -sigma times the score
    belongs: Float[Tensor, "B K"]
    log_density: Float[Tensor, "B"]


def log_normal(aside: Float[Tensor, "B K d"], variance: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Log-density of round Gaussians, `aside` from their means."""
    squared = aside.square().sum(2) / variance
    return -0.5 * (squared + aside.shape[2] * (2 * math.pi * variance).log())


def easy_and_hard(
    easy_std: Positive[float], components: Positive[int], radius: Positive[float], hard_std: Positive[float]
) -> Blend:
    """In the plane. Easy: one Gaussian around the origin, to which every trajectory is straight. Hard: one of
    several on a circle, evenly apart, between which a trajectory decides late."""
    angle = 2 * math.pi * torch.arange(components) / components
    circle = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    mean = torch.cat([torch.zeros(1, 2), circle])
    std = torch.tensor([easy_std] + components * [hard_std])
    hard = torch.tensor([0.0] + components * [1 / components])
    easy = (hard == 0).float()
    return Blend(mean, std, torch.stack([easy, hard, (easy + hard) / 2]))
