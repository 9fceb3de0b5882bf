"""Schedules by dynamic programming over candidate levels, from costs of single jumps or of whole ways."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, Range, register
from tpdm.sampler.grid import Levels
from tpdm.search.levels import uniform
from tpdm.search.problem import Problem, Walk

Power = Annotated[float, Range(min=0.1, max=10)]  # beyond, nearly all candidates lie at one end
EVENLY = 128  # samples whose distances are averaged: no schedule is fitted to their tail


@register("search", "gits")
@torch.no_grad()
def gits(problem: Problem, num_steps: int, /, candidates: Positive[int], power: Power) -> Levels:
    """The cheapest chain of jumps along the fine trajectory (GITS, Chen et al. 2024).

    A jump costs the mean distance between where one first-order step lands and where the fine trajectory is.
    Candidates lie at powers of even levels, closer together near the data.
    """
    problem, levels = problem[:EVENLY], fine(num_steps, candidates, power)
    walks, jump = problem.follow(levels), torch.full((len(levels), len(levels)), torch.inf)
    for i, walk in enumerate(walks[:-1]):
        ends, first_order = walks[i + 1].past, Walk(walk.x, None)
        assert ends is not None, "only a way's start has none"
        for j in range(i + 1, len(levels)):
            landed = problem.advance(first_order, ends, levels[j])
            jump[i, j] = (landed.x - walks[j].x).flatten(1).norm(dim=1).mean()
    return levels[shortest_path(jump, num_steps)]


class Reached(NamedTuple):
    """The best way found to a candidate in so many steps, and the candidate before it."""

    distance: float
    origin: int
    walk: Walk


@register("search", "oss")
@torch.no_grad()
def oss(problem: Problem, num_steps: int, /, candidates: Positive[int], power: Power) -> Levels:
    """The chain whose own steps stay closest to the fine trajectory (Optimal Stepsize, Pei et al. 2025).

    Unlike a chain of jumps, each step starts where the steps before it have really led.
    """
    problem, levels = problem[:EVENLY], fine(num_steps, candidates, power)
    teacher = [walk.x for walk in problem.follow(levels)]
    stages = [{0: Reached(0.0, 0, problem.start)}]  # by number of steps: candidate -> the best way there
    for left in reversed(range(num_steps)):
        stages.append({})
        ends = [len(levels) - 1] if left == 0 else range(1, len(levels) - left)
        for i, here in stages[-2].items():
            seen = problem.predict(here.walk, levels[i])
            for j in (j for j in ends if j > i):
                landed = problem.advance(here.walk, seen, levels[j])
                distance = (landed.x - teacher[j]).square().mean().item()
                if j not in stages[-1] or distance < stages[-1][j].distance:
                    stages[-1][j] = Reached(distance, i, landed)
    chain = [len(levels) - 1]
    for stage in reversed(stages[1:]):
        chain.append(stage[chain[-1]].origin)
    return levels[chain[::-1]]


def fine(num_steps: int, candidates: int, power: float) -> Levels:
    """Candidate levels from 1 to 0. Raises ValueError where they are too few for so many steps, or so close
    together that float32 tells them not apart."""
    if candidates < num_steps:
        raise ValueError(
            f"candidates={candidates} are too few for {num_steps} steps; use {num_steps} or more"
        )
    levels = uniform(candidates) ** power
    if not (levels.diff() < 0).all():
        raise ValueError(
            f"power={power} makes {candidates} candidates of which some are equal in float32; "
            "use one nearer to 1, or fewer candidates"
        )
    return levels


def shortest_path(cost: Float[Tensor, "M M"], num_steps: int) -> list[int]:
    """Indices from 0 to M - 1 with the least sum of cost[i, j] over exactly so many jumps."""
    total, origins = torch.full((len(cost),), torch.inf, dtype=torch.float64), []
    total[0] = 0
    for _ in range(num_steps):
        total, origin = (total[:, None] + cost).min(0)
        origins.append(origin)
    path = [len(cost) - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]
