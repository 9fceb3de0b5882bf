"""What a loader asks of data: the batch at a place of the stream, the same one whenever it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tpdm.types import CondSpec, DataShape, TextSpec

Batch = tuple[Tensor, Any]  # pixels (n, C, H, W) in [-1, 1]; labels (n, slots), or n captions


@dataclass(frozen=True)
class Place:
    """The part of one rank, `size` samples long, of what all ranks read from `position` on."""

    seed: int
    rank: int
    world_size: int
    size: int
    position: int = 0  # samples that all ranks together have had before

    def later(self, batches: int) -> Place:
        return replace(self, position=self.position + batches * self.size * self.world_size)

    def span(self) -> range:
        """Where the samples of this part stand in the stream of all ranks."""
        first = self.position + self.rank * self.size
        return range(first, first + self.size)

    def generator(self) -> torch.Generator:
        """Randomness of this part alone; numpy's SeedSequence parts neighbouring (seed, rank, step)."""
        step = self.position // (self.size * self.world_size)
        state = np.random.SeedSequence((self.seed, self.rank, step)).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))


class Data(Protocol):
    """A source of samples, endless or stored."""

    shape: DataShape
    cond: CondSpec | TextSpec | None  # None: captions, not encoded
    workers: int  # threads that read ahead; 0: nothing is read ahead
    reshard: bool  # go on at the next epoch when the number of ranks has changed

    @property
    def encoded_by(self) -> Mapping[str, Any] | None:
        """Config and `sha256` of the codec whose latents these are; None where they are pixels."""
        ...

    def at(self, place: Place) -> Batch:
        """A function of the place alone: there is no past to replay or to save."""
        ...

    def next_epoch(self, position: int) -> int:
        """The first position, from this one on, where every sample is still to come."""
        ...

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        """Samples drawn by the generator alone, for previews, pools and tests."""
        ...

    def texts(self) -> Iterable[str]:
        """Every caption of this split, for whoever counts their words."""
        ...


class Endless(ABC):
    """Samples that are made, not stored: each rank draws from a stream of its own."""

    workers, reshard, encoded_by = 0, False, None

    def at(self, place: Place) -> Batch:
        return self.batch(place.size, place.generator())

    def next_epoch(self, position: int) -> int:
        return position

    def texts(self) -> Iterable[str]:
        return ()

    @abstractmethod
    def batch(self, n: int, generator: torch.Generator) -> Batch:
        """Samples drawn by the generator alone."""
