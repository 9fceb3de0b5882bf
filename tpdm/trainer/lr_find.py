"""The learning-rate range test: train while the rate grows, see where the loss falls fastest (Smith 2017)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch.optim.lr_scheduler import LambdaLR

from tpdm.optimizer import Optimizer
from tpdm.runtime.plots import curves, running_mean
from tpdm.runtime.progress import Progress
from tpdm.trainer.denoiser import DenoiserTrainer

DIVERGED = 4.0  # times the best loss so far, both smoothed
MEMORY = 0.9  # of the loss that decides on that
LEAST = 10  # rates, for a curve to have a slope
WINDOW = 0.1  # of the steps, over which the curve is smoothed


class RangeTest(NamedTuple):
    """The curve as far as the loss was a number and not far above its best, and the rate that it suggests."""

    lr: list[float]
    loss: list[float]
    suggestion: float

    def plot(self) -> Image:
        x = np.log10(self.lr)
        return curves(
            {"loss": (x, self.loss)},
            xlabel="log10 of the learning rate",
            ylabel="loss",
            title="Learning-rate range test",
            log=True,
            smooth=window(x),
            marks={f"suggestion: {self.suggestion:.2g}": math.log10(self.suggestion)},
        )


def rising(make: Callable[..., Optimizer], lr_min: float, lr_max: float) -> Callable[..., Optimizer]:
    """The same optimiser, its rate growing by one factor at every step, from `lr_min` to `lr_max`."""

    def optimizer(parameters: Any, max_steps: int) -> Optimizer:
        chosen, _ = make(parameters, max_steps)
        for group in chosen.param_groups:
            group["lr"] = group["initial_lr"] = lr_min
        growth = (lr_max / lr_min) ** (1 / (max_steps - 1))
        return chosen, LambdaLR(chosen, lambda step: growth**step)

    return optimizer


def range_test(trainer: DenoiserTrainer) -> RangeTest:
    """Takes `max_steps` steps of a trainer whose rate is `rising`, fewer where the loss leaves its best.

    The weights are put back. Raises ValueError where that was too soon, or the loss fell nowhere.
    """
    stage = trainer.stage
    lrs: list[float] = []
    losses: list[float] = []
    before = copy.deepcopy(trainer.backbone.state_dict())
    trainer.backbone.train()
    silent = not stage.accelerator.is_main_process
    with Progress(trainer.max_steps, stage.name, silent=silent) as stage.progress:
        for step in range(trainer.max_steps):
            loss, norm = trainer.differentiate(step)
            loss = stage.accelerator.reduce(loss, "mean")
            if not torch.isfinite(loss + norm) or has_diverged([*losses, loss.item()]):
                break
            lrs.append(float(trainer.lr.get_last_lr()[0]))
            losses.append(loss.item())
            stage.report(step, {"loss": losses[-1], "lr": lrs[-1]}, {"loss": losses[-1]})
            trainer.descend()
    trainer.backbone.load_state_dict(before)
    return RangeTest(lrs, losses, suggested(lrs, losses))


def check_rates(lr_min: float, lr_max: float, num_steps: int) -> None:
    if lr_min >= lr_max:
        raise ValueError(f"lr_find.lr_max={lr_max:g} is not above lr_find.lr_min={lr_min:g}")


def has_diverged(losses: Sequence[float]) -> bool:
    smoothed, best = 0.0, math.inf
    for step, loss in enumerate(losses):
        smoothed = MEMORY * smoothed + (1 - MEMORY) * loss
        unbiased = smoothed / (1 - MEMORY ** (step + 1))
        best = min(best, unbiased)
    return unbiased > DIVERGED * best


def suggested(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at which the smoothed loss falls by the largest share per decade, before its minimum."""
    if len(lrs) < LEAST:
        raise ValueError(
            f"only {len(lrs)} rates had a loss that was a number, and not far above its best; {LEAST} are "
            "needed; choose a smaller lr_find.lr_max, or more num_steps"
        )
    x = np.log10(lrs)
    smoothed = np.log(running_mean(x, np.asarray(losses), window(x)))
    lowest = int(smoothed.argmin())
    if lowest == 0:
        raise ValueError(
            f"the loss fell at no rate from {lrs[0]:g} on; choose a smaller lr_find.lr_min, or more num_steps"
        )
    slope = np.gradient(smoothed, x)[: lowest + 1]
    return float(lrs[int(slope.argmin())])


def window(x: np.ndarray) -> float:
    """Decades over which the curve is smoothed."""
    return WINDOW * (x[-1] - x[0])
