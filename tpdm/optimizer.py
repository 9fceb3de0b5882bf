"""Optimisers with their learning-rate schedule: warm-up, flat, cosine."""

import math
from collections.abc import Iterable
from typing import Annotated

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from tpdm.registry import Fraction, NonNegative, Positive, Range, register

Decay = Annotated[float, Range(min=0, below=1)]
Optimizer = tuple[torch.optim.Optimizer, LambdaLR]


@register("optimizer", "adamw")
def adamw(
    parameters: Iterable[nn.Parameter],
    max_steps: int,
    /,
    lr: Positive[float],
    betas: tuple[Decay, Decay],
    weight_decay: NonNegative[float],
    warmup: NonNegative[int],
    hold: Fraction[float],
    final: Fraction[float],
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019) in torch's fused form, and its schedule, stepped once per update."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    return optimizer, LambdaLR(optimizer, lambda step: lr_factor(step, max_steps, warmup, hold, final))


@register("optimizer", "adam")
def adam(
    parameters: Iterable[nn.Parameter],
    max_steps: int,
    /,
    lr: Positive[float],
    betas: tuple[Decay, Decay],
    warmup: NonNegative[int],
    hold: Fraction[float],
    final: Fraction[float],
) -> Optimizer:
    """Adam (Kingma & Ba 2015), which is AdamW without decay."""
    return adamw(parameters, max_steps, lr, betas, 0.0, warmup, hold, final)


def lr_factor(step: int, max_steps: int, warmup: int, hold: float, final: float) -> float:
    """Share of the learning rate at `step`: linear over `warmup` steps, flat until `hold` of the run, then a
    half cosine down to `final`. hold = 1 is a constant rate."""
    rise = min(1.0, (step + 1) / (warmup + 1))
    start = hold * max_steps
    if step <= start:
        return rise
    progress = min(1.0, (step - start) / (max_steps - start))
    return rise * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)
