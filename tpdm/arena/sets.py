"""Noises and conditions: to search, to learn and to meet budgets on, and, for each seed, to be judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tpdm.arena.store import Kept, Store
from tpdm.evaluation.result import Problems, make_problems
from tpdm.sampler.reference import reference
from tpdm.types import Condition, DenoiserLike

FIRST = 3 * 2**30  # seeds of the noises are counted from here; training and the table of a run have others
APART = 2**20  # noises that a set may have
SEARCH, LEARNING, MATCHING, EVALUATION = range(4)  # places of the sets; each seed's evaluation has the next
SEEDS = 2**10 - EVALUATION


@dataclass(frozen=True)
class Sizes:
    """How many noises there are of each kind; of `evaluation` for every seed."""

    search: int
    learning: int
    matching: int
    evaluation: int

    @property
    def camp(self) -> dict[str, int]:
        """What decides all that is found."""
        return {name: size for name, size in vars(self).items() if name != "evaluation"}


@dataclass(frozen=True)
class Source:
    """What noises and conditions are made of."""

    data: Any
    condition: Callable[[Any], Condition]
    shape: tuple[int, ...]
    batch_size: int
    device: torch.device

    def draw(self, place: int, size: int) -> tuple[Problems, Any]:
        """Those of a place, which no other shares, and their labels or captions as the data have them; the
        ends of the exact ODEs are still to be found."""
        first = FIRST + place * APART
        _, asked = self.data.batch(size, torch.Generator().manual_seed(first))
        return make_problems(self.condition(asked), self.shape, first, self.batch_size, self.device), asked


class Sets:
    """No two have a noise in common, and each is drawn when it is first asked for.

    Whoever looks for a schedule sees `search`, whoever learns to foresee errors `learning`, whoever is to
    meet a budget `matching`, which needs no ends and has none. `evaluation` judges.
    """

    def __init__(
        self, sizes: Sizes, source: Source, denoiser: DenoiserLike, reference_steps: int, store: Store
    ):
        self.sizes, self.source, self.store = sizes, source, store
        self.follow = lambda problems: exact_ends(problems, denoiser, reference_steps)

    @cached_property
    def search(self) -> Problems:
        return self._with_ends(SEARCH, self.source.draw(SEARCH, self.sizes.search)[0])

    @cached_property
    def learning(self) -> Problems:
        return self._with_ends(LEARNING, self.source.draw(LEARNING, self.sizes.learning)[0])

    @cached_property
    def matching(self) -> Problems:
        return self.source.draw(MATCHING, self.sizes.matching)[0]

    def evaluation(self, seed: int) -> tuple[Problems, Any]:
        """With the labels or captions that were drawn."""
        problems, asked = self.source.draw(EVALUATION + seed, self.sizes.evaluation)
        return self._with_ends(EVALUATION + seed, problems), asked

    def _with_ends(self, place: int, problems: Problems) -> Problems:
        key = {"ends": place, "size": len(problems.seeds)}
        kept = self.store.keep(f"ends_{place}", key, lambda: Kept({}, {"ends": self.follow(problems)}))
        return replace(problems, target=kept.tensors["ends"].to(problems.noise))


def exact_ends(problems: Problems, denoiser: DenoiserLike, num_steps: int) -> Tensor:
    """Where the exact ODE leads from every noise."""
    size = problems.batch_size
    parts = zip(problems.noise.split(size), problems.cond.split(size), strict=True)
    return torch.cat([reference(denoiser, noise, cond, num_steps) for noise, cond in parts])


def check_sizes(sizes: Sizes, seeds: list[int]) -> None:
    """Raises ValueError where the noises of one set would run into another's."""
    for name, size in vars(sizes).items():
        if size > APART:
            raise ValueError(f"suite.{name}={size} is too many; a set has at most {APART} noises")
    if over := [seed for seed in seeds if seed >= SEEDS]:
        raise ValueError(f"suite.seeds holds {over[0]}; accepted: 0 to {SEEDS - 1}")
