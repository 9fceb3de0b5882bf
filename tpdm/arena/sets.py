"""Noises and conditions: to search, to learn and to meet budgets on, and, for each seed, to be judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tpdm.arena.store import Kept, Key, Store
from tpdm.evaluation.result import Problems, make_problems
from tpdm.sampler.reference import reference
from tpdm.types import Condition, DenoiserLike

FIRST = 3 * 2**30  # seeds of the noises are counted from here; training and the table of a run have others
APART = 2**20  # noises that a set may have
SEARCH, LEARNING, MATCHING, EVALUATION = range(4)  # places of the sets; each seed's evaluation has the next
SEEDS = 2**10 - EVALUATION
PIECE = 512  # noises that are followed in one go


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


class Piece(NamedTuple):
    """Some noises of the set at `place`, which has `of`, from `start` on."""

    place: int
    of: int
    start: int

    @property
    def record(self) -> tuple[str, Key]:
        return f"ends_{self.place}_{self.start}", {"ends": self._asdict()}


class Sets:
    """No two have a noise in common, and each is drawn when it is first asked for.

    Whoever looks for a schedule sees `search`, whoever learns to foresee errors `learning`, whoever is to
    meet a budget `matching`, which needs no ends and has none. `evaluation` judges.
    """

    def __init__(
        self, sizes: Sizes, source: Source, denoiser: DenoiserLike, reference_steps: int, store: Store
    ):
        self.sizes, self.source, self.store = sizes, source, store
        self.denoiser, self.reference_steps = denoiser, reference_steps

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

    def pieces(self, seeds: Sequence[int]) -> list[Piece]:
        """What the ends are found in, of all sets that need them."""
        places = {SEARCH: self.sizes.search, LEARNING: self.sizes.learning}
        places |= {EVALUATION + seed: self.sizes.evaluation for seed in seeds}
        return [piece for place, size in places.items() for piece in in_pieces(place, size)]

    def follow(self, piece: Piece) -> Tensor:
        """Where the exact ODEs lead from the noises of a piece; found once."""

        def followed() -> Kept:
            problems, _ = self.source.draw(piece.place, piece.of)
            rows, size = slice(piece.start, piece.start + PIECE), problems.batch_size
            batches = zip(problems.noise[rows].split(size), problems.cond[rows].split(size), strict=True)
            ends = [reference(self.denoiser, *batch, self.reference_steps) for batch in batches]
            return Kept({}, {"ends": torch.cat(ends)})

        return self.store.keep(*piece.record, followed).tensors["ends"]

    def ends_to_find(self, seeds: Sequence[int]) -> int:
        """About how many denoiser calls that takes."""
        left = [piece for piece in self.pieces(seeds) if not self.store.has(*piece.record)]
        return 4 * self.reference_steps * sum(min(PIECE, piece.of - piece.start) for piece in left)

    def _with_ends(self, place: int, problems: Problems) -> Problems:
        ends = [self.follow(piece) for piece in in_pieces(place, len(problems.seeds))]
        return replace(problems, target=torch.cat(ends).to(problems.noise))


def in_pieces(place: int, size: int) -> list[Piece]:
    return [Piece(place, size, start) for start in range(0, size, PIECE)]


def check_sizes(sizes: Sizes, seeds: list[int]) -> None:
    """Raises ValueError where the noises of one set would run into another's."""
    for name, size in vars(sizes).items():
        if size > APART:
            raise ValueError(f"suite.{name}={size} is too many; a set has at most {APART} noises")
    if over := [seed for seed in seeds if seed >= SEEDS]:
        raise ValueError(f"suite.seeds holds {over[0]}; accepted: 0 to {SEEDS - 1}")
