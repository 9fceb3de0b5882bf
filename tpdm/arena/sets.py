"""The noises and conditions of one seed: to search on, to learn on, to meet budgets on, to be judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tpdm.evaluation.result import Problems, make_problems
from tpdm.sampler.reference import reference
from tpdm.types import Condition, DenoiserLike

FIRST = 3 * 2**30  # seeds of the noises are counted from here; training and the table of a run have others
APART = 2**20  # noises that a seed of the arena may draw
SEEDS = 2**10


@dataclass(frozen=True)
class Sizes:
    """How many noises a seed has of each kind."""

    search: int
    learning: int
    matching: int
    evaluation: int


@dataclass(frozen=True)
class Sets:
    """Four sets without a noise in common, each with the ends of its exact ODEs.

    Whoever looks for a schedule sees `search`, whoever learns to foresee errors `learning`, whoever is to
    meet a budget `matching`.
    """

    search: Problems
    learning: Problems
    matching: Problems
    evaluation: Problems
    asked: Any  # labels or captions of `evaluation`, as the data have them


def draw_sets(
    seed: int,
    sizes: Sizes,
    data: Any,
    condition: Callable[[Any], Condition],
    shape: tuple[int, ...],
    batch_size: int,
    device: torch.device,
) -> Sets:
    """The ends are still to be found. ValueError where the seed's noises would run into the next one's."""
    if not 0 <= seed < SEEDS or sum(vars(sizes).values()) > APART:
        raise ValueError(f"suite.seeds: {seed} is outside 0..{SEEDS - 1}, or has over {APART} noises")
    first, drawn = FIRST + seed * APART, []
    for number, size in enumerate(vars(sizes).values()):
        _, asked = data.batch(size, torch.Generator().manual_seed(FIRST + seed * len(vars(sizes)) + number))
        drawn.append((make_problems(condition(asked), shape, first, batch_size, device), asked))
        first += size
    (search, _), (learning, _), (matching, _), (evaluation, asked) = drawn
    return Sets(search, learning, matching, evaluation, asked)


def with_ends(problems: Problems, ends: Tensor) -> Problems:
    return replace(problems, target=ends)


def exact_ends(problems: Problems, denoiser: DenoiserLike, num_steps: int) -> Tensor:
    """Where the exact ODE leads from every noise."""
    size = problems.batch_size
    parts = zip(problems.noise.split(size), problems.cond.split(size), strict=True)
    return torch.cat([reference(denoiser, noise, cond, num_steps) for noise, cond in parts])
