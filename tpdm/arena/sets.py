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
from tpdm.runtime.fingerprint import tensors_sha256
from tpdm.sampler.reference import reference
from tpdm.types import Condition, DenoiserLike, Text

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


class Asked(NamedTuple):
    """Labels or captions, as the data have them."""

    labels: Any
    sha256: str


class Source:
    """What noises and conditions are made of.

    The data may be others tomorrow, so what was drawn is known by its labels. Those are drawn once.
    """

    def __init__(
        self,
        data: Any,
        condition: Callable[[Any], Condition],
        shape: tuple[int, ...],
        batch_size: int,
        device: torch.device,
    ):
        self.data, self.condition, self.shape = data, condition, shape
        self.batch_size, self.device = batch_size, device
        self._asked: dict[tuple[int, int], Asked] = {}

    def draw(self, place: int, size: int) -> tuple[Problems, Any]:
        """Those of a place, which no other shares, and their labels or captions; the ends of the exact ODEs
        are still to be found."""
        first, asked = FIRST + place * APART, self.asked(place, size).labels
        return make_problems(self.condition(asked), self.shape, first, self.batch_size, self.device), asked

    def asked(self, place: int, size: int) -> Asked:
        if (place, size) not in self._asked:
            generator = torch.Generator().manual_seed(FIRST + place * APART)
            _, labels = self.data.batch(size, generator)
            self._asked[place, size] = Asked(labels, sha256_of(labels))
        return self._asked[place, size]

    def known(self, place: int, size: int) -> Key:
        """What tells those of a place from any other."""
        return {"size": size, "asked": self.asked(place, size).sha256}

    def camp(self, sizes: Sizes) -> Key:
        """What decides all that is found."""
        places = {"search": SEARCH, "learning": LEARNING, "matching": MATCHING}
        return {name: self.known(place, getattr(sizes, name)) for name, place in places.items()}


def sha256_of(labels: Any) -> str:
    """Of labels, of captions, or of what an encoder made of captions."""
    if isinstance(labels, Tensor):
        return tensors_sha256({"labels": labels}, {})
    if isinstance(labels, Text):
        return tensors_sha256(vars(labels), {})
    return tensors_sha256({}, {"captions": labels})


class Piece(NamedTuple):
    """Some noises of the set at `place`, from `start` on: it has `of`, and its labels this sha256."""

    place: int
    of: int
    asked: str
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

    def judging(self, seed: int) -> Key:
        """What tells a seed's evaluation set from any other."""
        return {"seed": seed, "evaluation": self.source.known(EVALUATION + seed, self.sizes.evaluation)}

    def evaluation(self, seed: int) -> tuple[Problems, Any]:
        """With the labels or captions that were drawn."""
        problems, asked = self.source.draw(EVALUATION + seed, self.sizes.evaluation)
        return self._with_ends(EVALUATION + seed, problems), asked

    def pieces(self, seeds: Sequence[int]) -> list[Piece]:
        """What the ends are found in, of all sets that need them."""
        places = {SEARCH: self.sizes.search, LEARNING: self.sizes.learning}
        places |= {EVALUATION + seed: self.sizes.evaluation for seed in seeds}
        return [piece for place, size in places.items() for piece in self._pieces(place, size)]

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
        ends = [self.follow(piece) for piece in self._pieces(place, len(problems.seeds))]
        return replace(problems, target=torch.cat(ends).to(problems.noise))

    def _pieces(self, place: int, size: int) -> list[Piece]:
        asked = self.source.asked(place, size).sha256
        return [Piece(place, size, asked, start) for start in range(0, size, PIECE)]


def check_sizes(sizes: Sizes, seeds: list[int]) -> None:
    """Raises ValueError where the noises of one set would run into another's."""
    for name, size in vars(sizes).items():
        if size > APART:
            raise ValueError(f"suite.{name}={size} is too many; a set has at most {APART} noises")
    if over := [seed for seed in seeds if seed >= SEEDS]:
        raise ValueError(f"suite.seeds holds {over[0]}; accepted: 0 to {SEEDS - 1}")
