"""The best static schedules by least squares on where trajectories end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, register
from tpdm.runtime.progress import Progress
from tpdm.sampler.grid import Levels
from tpdm.search.levels import Table, between, delayed, fall, logits_of, stretched, uniform
from tpdm.search.problem import Problem, Walk

SEVERAL = 8  # steps up to which uniform schedules are starts, too; beyond, the neighbours are enough
UP, DOWN = 64, 128  # samples that a search walks with, chosen anew for each N to stand for all
APART = 0.02  # ends that differ more at one of their levels lie in two valleys
EACH, STRIDE = 14, 4  # all N up to EACH are searched both ways, then every fourth; the others begin between
SHIFT = 1e-3  # of a level in a finite difference, as a share of the smaller gap beside it
DAMPING, STUCK = 1e-2, 1e4  # where Levenberg-Marquardt begins, and where nothing is downhill any more
ENOUGH = 1e-3  # a gain of so small a share of the cost is the last


@register("search", "least_squares")
def least_squares(problem: Problem, num_steps: int, /, iterations: Positive[int]) -> Levels:
    """The last row of the table."""
    return table(problem, num_steps, iterations)[num_steps]


def table(problem: Problem, num_steps: int, iterations: int, silent: bool = True) -> Table:
    """The levels alone of what is searched."""
    return {n: found.levels for n, found in searched(problem, num_steps, iterations, silent).items()}


@torch.no_grad()
def searched(problem: Problem, num_steps: int, iterations: int, silent: bool = True) -> dict[int, Minimum]:
    """The best schedule of every number of steps from 1 to `num_steps`, by its N.

    Searched upwards, from the shape of fewer steps and several others; then downwards, from what was found
    and from the shape of more steps. Beyond EACH all but every fourth begin once, at a mean of the shapes on
    both sides. A start has so many `iterations` at most, and walks with samples that stand for all of the
    problem: give it 512 or more, since too few have another best schedule. What is found is nowhere worse
    than uniform levels are on all of the problem. Raises FloatingPointError where no schedule has a finite
    cost.
    """
    counts = [n for n in range(2, num_steps + 1) if n <= EACH or (num_steps - n) % STRIDE == 0]
    best = {1: Minimum(uniform(1), problem.cost(uniform(1)).item())}
    with Progress(len(counts) + num_steps - 1, "schedules", silent=silent) as progress:
        for below, n in pairwise([1, *counts]):
            best[n] = cheapest(problem, beginnings(best[below].levels, n), iterations, UP)
            progress.advance(steps=str(n), mse=best[n].cost)
        above = None
        for n in reversed(counts):
            starts = [best[n].levels] + ([] if above is None else [stretched(best[above].levels, n)])
            found = cheapest(problem, starts, iterations, DOWN)
            best[n] = found if found.gap is not None else found._replace(gap=best[n].gap)
            progress.advance(steps=str(n), mse=found.cost)
            above = n if n <= EACH else None
        begun = between({n: found.levels for n, found in best.items()})
        for n in range(2, num_steps + 1):
            if n not in best:
                best[n] = cheapest(problem, [begun[n]], iterations, DOWN)
                progress.advance(steps=str(n), mse=best[n].cost)
    return {n: no_worse_than_uniform(problem, best[n]) for n in sorted(best)}


def no_worse_than_uniform(problem: Problem, found: Minimum) -> Minimum:
    """The few samples that a search walks with may be too few, where few errors make up the mean."""
    even = uniform(len(found.levels) - 1)
    cost = problem.cost(even).item()
    return found if problem.cost(found.levels).item() <= cost else Minimum(even, cost)


def beginnings(below: Levels, num_steps: int) -> list[Levels]:
    """Where to begin on the way up.

    Each also behind a short first step, since the first step of a multistep method is one of first order:
    with and without are valleys of their own, and which one is deeper changes with the number of steps.
    """
    starts = [stretched(below, num_steps)]
    if num_steps <= EACH:
        starts.append(delayed(stretched(below, num_steps - 1)))
    if num_steps <= SEVERAL:
        starts += [uniform(num_steps), delayed(uniform(num_steps - 1))]
    return starts


class Minimum(NamedTuple):
    levels: Levels
    cost: float
    gap: float | None = None  # by what share of the cost the next best of several starts ends above the best


def cheapest(problem: Problem, starts: Sequence[Levels], iterations: int, samples: int) -> Minimum:
    """The best of where these starts lead, by so many samples that stand for all; all choose the valley.

    The few were drawn by the errors of the first start. Of its own valley they say what all do to a percent,
    of another what a fit to them can make of them.
    """
    few = problem.concentrated(starts[0], samples)
    ends = sorted((refined(few, start, iterations) for start in starts), key=lambda found: found.cost)
    if not ends[0].cost < torch.inf:
        raise FloatingPointError(f"no schedule of {len(starts[0]) - 1} steps that was met has a finite cost")
    valleys = apart(ends)
    if len(valleys) > 1 and few is not problem:
        valleys = [Minimum(found.levels, problem.cost(found.levels).item()) for found in valleys]
    return min(valleys, key=lambda found: found.cost)._replace(gap=lead(ends))


def lead(ends: Sequence[Minimum]) -> float | None:
    """By what share of the cost the second of these ends lies above the first; None without a finite one."""
    if len(ends) < 2 or not 0 < ends[0].cost <= ends[1].cost < torch.inf:
        return None
    return ends[1].cost / ends[0].cost - 1


def apart(ends: Sequence[Minimum]) -> list[Minimum]:
    """The best end of each valley, where `ends` rise in cost."""
    valleys: list[Minimum] = []
    for end in ends:
        if all((end.levels - other.levels).abs().max() > APART for other in valleys):
            valleys.append(end)
    return valleys


def refined(problem: Problem, start: Levels, iterations: int) -> Minimum:
    """Levenberg-Marquardt (Marquardt 1963) over the logits of the shares that each step takes."""
    logits, walks = logits_of(start), problem.follow(start)
    cost, damping = problem.error(walks[-1].x), DAMPING
    for _ in range(iterations):
        before = cost
        gram, slope = normal_equations(problem, logits, walks)
        scale = torch.diag(gram.diagonal() + torch.finfo(torch.float64).tiny)
        while damping < STUCK:
            moved = logits - torch.linalg.solve(gram + damping * scale, slope)
            trial = problem.follow(fall(moved))
            if problem.error(trial[-1].x) < cost:
                break
            damping *= 4
        else:
            break
        logits, walks, damping = moved, trial, damping / 8
        cost = problem.error(walks[-1].x)
        if cost > (1 - ENOUGH) * before:
            break
    return Minimum(fall(logits), cost.item())


def normal_equations(
    problem: Problem, logits: Float[Tensor, "N"], walks: list[Walk]
) -> tuple[Float[Tensor, "N N"], Float[Tensor, "N"]]:
    """J^T J and J^T r of the distances r from where the walks end to their targets, in float64."""
    columns = slopes(problem, fall(logits), walks)
    residual = problem.weighed(walks[-1].x - problem.target)
    of_levels = torch.autograd.functional.jacobian(fall, logits)[1:-1].double()  # (N - 1, N)
    gram, slope = (columns @ columns.T).double().cpu(), (columns @ residual).double().cpu()
    return of_levels.T @ gram @ of_levels, of_levels.T @ slope


def slopes(problem: Problem, levels: Levels, walks: list[Walk]) -> Float[Tensor, "N-1 R"]:
    """How all ends, weighed, change with each level between the first and the last: forward differences.

    A level matters from the step into it on: what was predicted there is known, and the rest is walked again.
    """
    rows = []
    for k in range(1, len(levels) - 1):
        moved = levels[k] - SHIFT * torch.minimum(levels[k - 1] - levels[k], levels[k] - levels[k + 1])
        ends = walks[k].past
        assert ends is not None, "only a way's start has none"
        landed = problem.advance(walks[k - 1], ends, moved)
        x = problem.follow([moved, *levels[k + 1 :]], landed)[-1].x
        rows.append(problem.weighed((x - walks[-1].x) / (moved - levels[k])))
    return torch.stack(rows)
