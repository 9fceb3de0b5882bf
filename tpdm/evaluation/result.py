"""What one sampler made of the evaluation set, sample by sample, and mixtures of two such results."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.runtime.memory import memory_of
from tpdm.sampler.noise import initial_noise
from tpdm.types import Condition, Trajectory

Run = Callable[[Tensor, Condition, Sequence[int]], Trajectory]  # (noise, cond, seeds)


@dataclass(frozen=True)
class Problems:
    """Held-out conditions, the noise of their seeds and, once it is known, the end of each exact ODE."""

    cond: Condition
    noise: Float[Tensor, "B C H W"]
    seeds: Sequence[int]
    target: Float[Tensor, "B C H W"]
    batch_size: int

    def batches(self) -> Iterator[tuple[Tensor, Condition, Sequence[int]]]:
        """Noise, condition and seeds, as a Run takes them."""
        for start in range(0, len(self.seeds), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self.noise[rows], self.cond[rows], self.seeds[rows]


@dataclass(frozen=True)
class Result:
    """States, images (the states decoded) and times of one sampler over all problems, and what it took."""

    x0: Float[Tensor, "B C H W"]
    images: Float[Tensor, "B C H W"]
    nfe: Int[Tensor, "B"]
    squared_error: Float[Tensor, "B"]  # mean over the state, against the end of the ODE
    t: Float[Tensor, "B K+1"]
    seconds: float


def measure(run: Run, problems: Problems, decode: Callable[[Tensor], Tensor]) -> Result:
    """Runs a sampler over the problems in batches; the clock stands while nothing is sampled.

    One problem goes ahead of it, for whatever is imported and allocated at first use.
    """
    run(problems.noise[:1], problems.cond[:1], problems.seeds[:1])
    parts, seconds = [], 0.0
    for batch in problems.batches():
        begin = time.perf_counter()
        with memory_of(len(batch[0]), "images", "evaluation.batch_size"):
            parts.append(run(*batch))
        if problems.noise.is_cuda:
            torch.cuda.synchronize()
        seconds += time.perf_counter() - begin
    longest = max(part.t.shape[1] for part in parts)
    x0, nfe = torch.cat([part.x0 for part in parts]), torch.cat([part.nfe for part in parts])
    t = torch.cat([torch.nn.functional.pad(part.t, (0, longest - part.t.shape[1])) for part in parts])
    error = (x0 - problems.target).square().flatten(1).mean(1)
    return Result(x0, decode(x0), nfe, error, t, seconds)


def make_problems(
    cond: Condition, shape: tuple[int, ...], first_seed: int, batch_size: int, device: torch.device
) -> Problems:
    """Noise by seed, counted from `first_seed`; the target is still to be found."""
    seeds = range(first_seed, first_seed + len(cond))
    noise = initial_noise(seeds, shape).to(device)
    return Problems(cond.to(device), noise, seeds, torch.full_like(noise, math.nan), batch_size)
