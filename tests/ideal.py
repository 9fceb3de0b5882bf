"""Denoisers that are exact because their data is simple enough: one Gaussian, or one point."""

import torch
from torch import Tensor

from tpdm.scheduler.path import by_noise_level, expand
from tpdm.types import Features, Prediction, Scheduler


class IdealDenoiser:
    """Posterior means for data N(mean, std^2) per element; a point mass at `mean` when std is 0.

    Keeps the times of its calls in `calls`. Its features are (x as one token, x as one token, t).
    """

    def __init__(self, scheduler: Scheduler, mean: Tensor | float = 0.0, std: Tensor | float = 0.0) -> None:
        self.scheduler, self.mean, self.std = scheduler, torch.as_tensor(mean), torch.as_tensor(std)
        self.calls: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor) -> Prediction:
        self.calls.append(t)
        c = self.scheduler(t)
        alpha, sigma = expand(c.alpha, x), expand(c.sigma, x)
        score = (x - alpha * self.mean) / (alpha**2 * self.std**2 + sigma**2)  # minus d log p / dx
        tokens = x.flatten(1)[:, None]
        return Prediction(
            x0=self.mean + alpha * self.std**2 * score,
            eps=sigma * score,
            features=Features(tokens, tokens, temb=t[:, None], text=None, hw=(1, 1)),
        )

    def end(self, noise: Tensor) -> Tensor:
        """Where the ODE from `noise` ends: z = (x - alpha mean) / std(x) never changes on the way."""
        path = by_noise_level(self.scheduler)
        c = path(torch.tensor([path.t_max]))
        z = (noise - c.alpha * self.mean) / (c.alpha**2 * self.std**2 + c.sigma**2).sqrt()
        return self.mean + self.std * z
