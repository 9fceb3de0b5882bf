"""Samples on a disk, met once in every epoch, in an order that (seed, epoch) decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpdm.data.damage import Damage, DamagedError, Skipped
from tpdm.data.source import Batch, Place
from tpdm.types import CondSpec, DataShape, TextSpec

SPLITS = ("train", "test")


class Stored(ABC):
    """Rows 0 to `size`, of which the split has its share.

    The stream of all ranks is one epoch's permutation after the other, and an epoch may end inside a batch:
    every sample is met once an epoch, and every rank has batches for ever. A damaged sample leaves its place
    to the next in the order.
    """

    def __init__(
        self,
        size: int,
        shape: DataShape,
        cond: CondSpec | TextSpec | None,
        split: str,
        test_fraction: float,
        workers: int,
        reshard: bool,
        max_skipped: float,
        skipped: Path | None,
        unreadable: Sequence[Damage] = (),
    ):
        """`unreadable` was found while looking for the samples, and has no row."""
        self.shape, self.cond = shape, cond
        self.workers, self.reshard = workers, reshard
        self.skipped = Skipped(size + len(unreadable), max_skipped, skipped)
        if unreadable:
            self.skipped.add(unreadable)
        self.rows = side(size, split, test_fraction)
        if not len(self.rows):
            raise ValueError(f"data.test_fraction={test_fraction:g} of {size} samples leaves none to {split}")

    def __len__(self) -> int:
        """Samples of this split."""
        return len(self.rows)

    def texts(self) -> Iterable[str]:
        return ()

    @property
    def encoded_by(self) -> Mapping[str, Any] | None:
        return None

    @abstractmethod
    def load(self, rows: np.ndarray, coins: np.ndarray) -> Batch:
        """These rows; `coins` (n,) bool is what the order has to toss for each. Raises DamagedError."""

    def at(self, place: Place) -> Batch:
        epoch, index = np.divmod(np.array(place.span()), len(self))

        def look_up(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows, coins = np.empty(len(index), int), np.empty(len(index), bool)
            for met in range(epoch[0], epoch[-1] + 1):
                here, found = epoch == met, order(len(self), place.seed, met)
                rows[here], coins[here] = found.rows[index[here]], found.coins[index[here]]
            return self.rows[rows], coins

        return self.gather(index, look_up)

    def next_epoch(self, position: int) -> int:
        return -(-position // len(self)) * len(self)

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        index = torch.randint(len(self), (n,), generator=generator).numpy()
        return self.gather(index, lambda index: (self.rows[index], np.zeros(n, bool)))

    def gather(
        self, index: np.ndarray, look_up: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    ) -> Batch:
        """The samples at `index` of an order; what is known to be damaged makes way for the next."""
        while True:
            rows, coins = look_up(index)
            known = np.array([row in self.skipped.rows for row in rows.tolist()])
            if known.any():
                index = np.where(known, (index + 1) % len(self), index)
                continue
            try:
                return self.load(rows, coins)
            except DamagedError as error:
                self.skipped.add(error.damages)


class Order:
    """A permutation of the samples, and a coin for each."""

    def __init__(self, size: int, seed: int, epoch: int):
        # RandomState's stream is frozen: another numpy does not shuffle otherwise
        random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, epoch))))
        self.rows = random.permutation(size).astype(np.uint32)
        self.coins = random.randint(2, size=size, dtype=np.uint8).astype(bool)


@lru_cache(maxsize=4)  # a batch may see two epochs, and a second loader others
def order(size: int, seed: int, epoch: int) -> Order:
    return Order(size, seed, epoch)


def side(size: int, split: str, test_fraction: float) -> np.ndarray:
    """Rows of one side of a fixed split; where the fraction is 0, either side is everything."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r} does not exist; use one of {', '.join(SPLITS)}")
    if not test_fraction:
        return np.arange(size)
    shuffled = np.random.RandomState(0).permutation(size)
    held_out = round(size * test_fraction)
    return np.sort(shuffled[:held_out] if split == "test" else shuffled[held_out:])


def parse_classes(labels: Sequence[str | int], classes: Sequence[str]) -> Tensor:
    """(n, 1) from what a person typed: names of classes, or their numbers."""
    number_of = {str(k): k for k in range(len(classes))} | {name: k for k, name in enumerate(classes)}
    for label in labels:
        if str(label) not in number_of:
            shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
            raise ValueError(f"labels: {str(label)!r} does not exist; accepted are {shown}, or their numbers")
    return torch.tensor([number_of[str(label)] for label in labels]).view(-1, 1)
