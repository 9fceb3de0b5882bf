"""The best static schedule by trying all of a grid, and the best of them for each condition."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import NamedTuple

import torch

from tpdm.registry import Positive, register
from tpdm.sampler.grid import Levels
from tpdm.search.levels import uniform
from tpdm.search.problem import Problem

MOST = 100_000  # schedules that are tried


@register("search", "brute_force")
@torch.no_grad()
def brute_force(problem: Problem, num_steps: int, /, candidates: Positive[int]) -> Levels:
    """The cheapest of all schedules whose levels are among the even ones of `candidates` steps.

    Raises ValueError where these are too many, or fewer candidates than steps.
    """
    if not 0 < (count := comb(candidates - 1, num_steps - 1)) <= MOST:
        raise ValueError(
            f"candidates={candidates} has {count:,} schedules of {num_steps} steps; accepted: up to "
            f"{MOST:,}, and at least one"
        )
    inner = combinations(uniform(candidates)[1:-1].tolist(), num_steps - 1)
    return torch.tensor(min(([1.0, *levels, 0.0] for levels in inner), key=problem.cost))


class Policy(NamedTuple):
    """A schedule for each condition, and the mean over them of MSE + cost x NFE."""

    schedules: list[Levels]
    objective: float


def best_by_condition(problems: list[Problem], tables: list[dict[int, Levels]], cost: float) -> Policy:
    """The optimum of reward -MSE - cost x NFE among the policies that know the condition and nothing else.

    Such a policy is a schedule for each condition, and conditions (one problem each, equally frequent) do not
    share any: each takes the N at which its own best schedule and the calls cost least together. A policy
    that sees the state as well may do better.
    """
    schedules, objectives = [], []
    for problem, table in zip(problems, tables, strict=True):
        worth = {n: problem.cost(levels).item() + cost * n for n, levels in table.items()}
        best = min(worth, key=worth.__getitem__)
        schedules.append(table[best])
        objectives.append(worth[best])
    return Policy(schedules, sum(objectives) / len(objectives))
