"""The error-controlled sampler at a mean number of calls that is asked for."""

from __future__ import annotations

import math

import torch

from tpdm.sampler.error_controlled import ErrorControlledSampler
from tpdm.search.problem import Problem

FIRST = (0.02, 0.05, 0.1, 0.2, 0.3)  # shares of the way for the first step, which no tolerance decides
LOOSE, TIGHT = 10.0, 1e-5  # tolerances between which the one is looked for
HALVINGS = 16
MAX_STEPS, T_MIN = 100, 0.01


@torch.no_grad()
def controlled(problem: Problem, mean_nfe: float, near: float = 0.02) -> ErrorControlledSampler:
    """The one with the least error on the problem's own samples among those of this mean.

    Bisection over the tolerance, for several first steps. Raises ValueError where none comes as `near` to the
    mean, as a share of it.
    """
    found = [(first, *bisected(problem, mean_nfe, first)) for first in FIRST]
    fitting = [
        (error, tolerance, first) for first, tolerance, nfe, error in found if abs(nfe / mean_nfe - 1) < near
    ]
    if not fitting:
        means = ", ".join(f"{nfe:.2f}" for _, _, nfe, _ in found)
        raise ValueError(f"sampler=error_controlled takes no {mean_nfe:g} calls on the mean, but {means}")
    _, tolerance, first = min(fitting)
    return sampler(problem, tolerance, first)


def bisected(problem: Problem, mean_nfe: float, first: float) -> tuple[float, float, float]:
    """(tolerance, mean calls, error): the tightest that takes no more calls than asked for."""
    low, high = math.log(TIGHT), math.log(LOOSE)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        nfe, _ = tried(problem, math.exp(middle), first)
        low, high = (middle, high) if nfe > mean_nfe else (low, middle)
    return math.exp(high), *tried(problem, math.exp(high), first)


def tried(problem: Problem, tolerance: float, first: float) -> tuple[float, float]:
    """(mean calls, error) of a tolerance."""
    drawn = sampler(problem, tolerance, first)(problem.denoiser, problem.noise, problem.cond, ())
    return drawn.nfe.float().mean().item(), problem.error(drawn.x0).item()


def sampler(problem: Problem, tolerance: float, first: float) -> ErrorControlledSampler:
    return ErrorControlledSampler(problem.step, tolerance, first, MAX_STEPS, T_MIN)
