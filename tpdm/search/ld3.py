"""A schedule learned by gradients through the solver."""

from __future__ import annotations

import torch

from tpdm.registry import Positive, register
from tpdm.sampler.grid import Levels
from tpdm.search.levels import fall
from tpdm.search.problem import Problem


@register("search", "ld3")
def ld3(
    problem: Problem,
    num_steps: int,
    /,
    iterations: Positive[int],
    batch_size: Positive[int],
    lr: Positive[float],
) -> Levels:
    """Adam on the logits of the shares that each step takes (LD3, Tong et al. 2025), one set of times.

    The gradient is that of the final error itself, of a few samples after the others; the network has to be
    smooth in t for it to mean much. Returns the best schedule met, by all samples, looked for once a round.
    Raises FloatingPointError where none has a finite cost.
    """
    logits = torch.zeros(num_steps, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr)
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    batches = [problem[start : start + batch_size] for start in range(0, len(problem), batch_size)]
    best, least = None, torch.inf
    for k in range(iterations):
        optimizer.zero_grad()
        batches[k % len(batches)].cost(fall(logits).unbind()).backward()
        optimizer.step()
        annealed.step()
        if (k + 1) % len(batches) == 0 or k + 1 == iterations:
            with torch.no_grad():
                levels = fall(logits)
                cost = problem.cost(levels).item()
            if cost < least:
                best, least = levels, cost
    if best is None:
        raise FloatingPointError("no schedule that search=ld3 met has a finite cost")
    return best
