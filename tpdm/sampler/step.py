"""One step from t to t_next, for rows that each have their own times. All steps are exact where the ends are.

The path is any Scheduler; `past` is what was predicted before for the same rows, None on the first step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import register
from tpdm.scheduler.path import expand
from tpdm.types import Prediction, Scheduler

LONGEST = 2.0  # times the next step: the longest step that abm puts right wholly


class Past(NamedTuple):
    """What a multistep method remembers of each row: both ends of the path, as they were predicted at t."""

    x0: Float[Tensor, "B C H W"]
    eps: Float[Tensor, "B C H W"]
    t: Float[Tensor, "B"]
    before: Past | None = None  # and at the time before, which is as far back as any step looks

    def of(self, rows: Tensor) -> Past:
        before = None if self.before is None else self.before.of(rows)
        return Past(self.x0[rows], self.eps[rows], self.t[rows], before)


def remember(p: Prediction, t: Float[Tensor, "B"], past: Past | None) -> Past:
    """The `past` of the next step."""
    return Past(p.x0, p.eps, t, None if past is None else past._replace(before=None))


@register("sampler/step", "ddim")
def ddim(path: Scheduler, p: Prediction, t: Tensor, t_next: Tensor, past: Past | None, /) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with sigma = 0); Euler's method on the flow path."""
    c = path(t_next)
    return expand(c.alpha, p.x0) * p.x0 + expand(c.sigma, p.x0) * p.eps


@register("sampler/step", "dpmpp_2m")
def dpmpp_2m(path: Scheduler, p: Prediction, t: Tensor, t_next: Tensor, past: Past | None, /) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): DDIM, with x0 extrapolated linearly in log-SNR.

    First order where a step begins or the history lies at pure noise, and on the step to t = 0, where log-SNR
    has no end.
    """
    x = ddim(path, p, t, t_next, None)
    if past is None:
        return x
    c = path(t_next)
    log_snr, log_snr_next, log_snr_past = (half_log_snr(path, time) for time in (t, t_next, past.t))
    h, h_past = log_snr_next - log_snr, log_snr - log_snr_past
    weight = c.alpha * -torch.expm1(-h) * h / (2 * h_past)
    weight = torch.where((t_next > 0) & h_past.isfinite(), weight, 0.0)
    return x + expand(weight, x) * (p.x0 - past.x0)


@register("sampler/step", "ab2")
def ab2(path: Scheduler, p: Prediction, t: Tensor, t_next: Tensor, past: Past | None, /) -> Tensor:
    """Two-step Adams-Bashforth (Hairer, Norsett & Wanner 1993, III.1) on both ends of the path.

    DDIM plus h / (2 h_past) of what the ends moved since the last step; on the flow path, where the velocity
    is eps - x0, this is the textbook formula with unequal steps.
    """
    x = ddim(path, p, t, t_next, None)
    if past is None:
        return x
    now, then = path(t), path(t_next)
    weight = (t_next - t) / (2 * (t - past.t))
    x0_weight, eps_weight = weight * (then.alpha - now.alpha), weight * (then.sigma - now.sigma)
    return x + expand(x0_weight, x) * (p.x0 - past.x0) + expand(eps_weight, x) * (p.eps - past.eps)


@register("sampler/step", "abm")
def abm(path: Scheduler, p: Prediction, t: Tensor, t_next: Tensor, past: Past | None, /) -> Tensor:
    """Adams-Bashforth-Moulton of orders 2 and 3 (Hairer, Norsett & Wanner 1993, III.1), in PEC mode.

    What is predicted at t tells how far the ends are from the line along which AB2 extrapolated them over the
    last step. The parabola through all three says how far x is off for it, and AB2 goes on from there: as
    many calls, and on the flow path of order 3 where steps change slowly. The first step, which was Euler's,
    becomes a trapezoid's.

    Putting x right makes it jump, which the next difference of the ends shows as if it were their slope; and
    where it hardly matters what x is, as on an empty canvas, the jump outlasts the noise that it is part of.
    So a step h that is more than LONGEST times as long as the next is put right by (LONGEST h_next / h)^2.
    """
    x = ab2(path, p, t, t_next, past)
    if past is None:
        return x
    now, then = path(t), path(past.t)
    x0_miss, eps_miss, weight = p.x0 - past.x0, p.eps - past.eps, torch.full_like(t, 1 / 2)
    if past.before is not None:
        growth = (t - past.t) / (past.t - past.before.t)
        x0_miss = x0_miss - expand(growth, x) * (past.x0 - past.before.x0)
        eps_miss = eps_miss - expand(growth, x) * (past.eps - past.before.eps)
        weight = (2 * growth + 3) / (6 * growth + 6)
    weight = weight * (LONGEST * (t_next - t) / (t - past.t)).clamp(max=1).square()
    x0_weight, eps_weight = weight * (now.alpha - then.alpha), weight * (now.sigma - then.sigma)
    return x + expand(x0_weight, x) * x0_miss + expand(eps_weight, x) * eps_miss


def half_log_snr(path: Scheduler, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """lambda = log(alpha / sigma), which steps of the DPM-Solver family are measured in."""
    c = path(t)
    return c.alpha.log() - c.sigma.log()
