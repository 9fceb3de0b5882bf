"""Optimisers with their learning-rate schedule: a warm-up, a plateau, a way down."""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from tpdm.registry import Fraction, NonNegative, Positive, Range, register

Decay = Annotated[float, Range(min=0, below=1)]
Schedule = Literal["cosine", "linear", "constant"]
Optimizer = tuple[torch.optim.Optimizer, LambdaLR]


@register("optimizer", "adamw")
def adamw(
    parameters: Iterable[nn.Parameter],
    max_steps: int,
    /,
    lr: Positive[float],
    betas: tuple[Decay, Decay],
    weight_decay: NonNegative[float],
    schedule: Schedule,
    warmup: NonNegative[int],
    hold: Fraction[float],
    final: Fraction[float],
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019) in torch's fused form, and its schedule, stepped once per update."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    return optimizer, LambdaLR(
        optimizer, lambda step: lr_factor(step, max_steps, schedule, warmup, hold, final)
    )


@register("optimizer", "adam")
def adam(
    parameters: Iterable[nn.Parameter],
    max_steps: int,
    /,
    lr: Positive[float],
    betas: tuple[Decay, Decay],
    schedule: Schedule,
    warmup: NonNegative[int],
    hold: Fraction[float],
    final: Fraction[float],
) -> Optimizer:
    """Adam (Kingma & Ba 2015), which is AdamW without decay."""
    return adamw(parameters, max_steps, lr, betas, 0.0, schedule, warmup, hold, final)


def lr_factor(step: int, max_steps: int, schedule: str, warmup: int, hold: float, final: float) -> float:
    """Share of the learning rate at `step`: linear over `warmup` steps, flat until `hold` of the run, then
    down to `final` along half a cosine or a line; a constant schedule stays."""
    rise = min(1.0, (step + 1) / (warmup + 1))
    start = hold * max_steps
    if schedule == "constant" or step <= start:
        return rise
    progress = min(1.0, (step - start) / (max_steps - start))
    left = 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return rise * (final + (1 - final) * left)
