"""Which cost of a step leads to which mean number of calls, measured once a predictor is trained."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from accelerate import Accelerator

from tpdm.predictor.budget import AtCost, Budget
from tpdm.runtime.progress import Progress
from tpdm.sampler.batched import Sampler, in_batches
from tpdm.types import Condition, CostRange, DataShape, DenoiserLike, TimePredictor

SEEDS = 2**29  # of conditions and noises that neither training nor evaluation has
FIRST, MOST = 9, 33  # costs at which the mean is measured: to begin with, and at most
CLOSE = 1.1  # neighbours whose means differ by less than this factor need no cost between them
NONE = (0.0, 1.0, 1.0)  # what is left to halve where all costs are too near to each other
NEAREST = 1.001  # nor do costs by less than this: a predictor that is blind takes its steps at once for all


def calibrated(costs: CostRange, mean_nfe: Callable[[float], float], silent: bool) -> Budget:
    """The mean NFE at costs over the whole range, closer together where it changes fast."""
    seen: dict[float, float] = {}
    wanted = costs.at(torch.linspace(0, 1, FIRST, dtype=torch.float64)).tolist()
    with Progress(MOST, "calibration", silent=silent) as progress:
        while wanted and len(seen) < MOST:
            for cost in wanted:
                seen[cost] = mean_nfe(cost)
                progress.advance(cost=cost, nfe=seen[cost])
            known = [pair for pair in pairwise(sorted(seen)) if pair[1] > NEAREST * pair[0]]
            gap, low, high = max(((abs(math.log(seen[a] / seen[b])), a, b) for a, b in known), default=NONE)
            wanted = [math.sqrt(low * high)] if gap > math.log(CLOSE) else []
        progress.end()
    return Budget.fit(costs, seen)


def held_out_nfe(
    sampler: Callable[[TimePredictor], Sampler],
    predictor: TimePredictor,
    denoiser: DenoiserLike,
    cond: Condition,
    shape: DataShape,
    batch_size: int,
    accelerator: Accelerator,
) -> Callable[[float], float]:
    """cost -> mean NFE over held-out conditions, a noise for each; the processes share them out."""
    mine = torch.arange(len(cond))[accelerator.process_index :: accelerator.num_processes]
    seeds, read = (SEEDS + mine).tolist(), cond[mine]

    def mean_nfe(cost: float) -> float:
        asked, device = sampler(AtCost(predictor, cost)), accelerator.device
        _, nfe = in_batches(asked, denoiser, seeds, read, shape, batch_size, device)
        both = torch.tensor([nfe.sum().item(), len(nfe)], dtype=torch.float64, device=device)
        calls, samples = accelerator.reduce(both, "sum").tolist()
        return calls / samples

    return mean_nfe
