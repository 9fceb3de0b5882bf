"""Batches that a run can leave and find again at the exact position."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tpdm.types import CondSpec, DataShape


class Data(Protocol):
    """A source of samples: pixels in [-1, 1] with their condition, drawn by the given generator only."""

    shape: DataShape
    cond: CondSpec

    def batch(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]: ...


class Loader(Iterator[tuple[Tensor, Tensor]]):
    """An endless stream whose batch k is a function of (seed, rank, k): no past to replay or to save.

    `batch_size` is one rank's; each rank draws from a stream of its own.
    """

    def __init__(self, data: Data, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1):
        self.data, self.batch_size = data, batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.step = 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        batch = self.data.batch(self.batch_size, self.generator(self.step))
        self.step += 1
        return batch

    def generator(self, step: int) -> torch.Generator:
        """The randomness of one batch; numpy's SeedSequence parts neighbouring (seed, rank, step)."""
        state = np.random.SeedSequence((self.seed, self.rank, step)).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))

    def state_dict(self) -> dict[str, int]:
        """The same on every rank."""
        return {"step": self.step, "world_size": self.world_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["world_size"] != self.world_size:
            raise ValueError(
                f"the data position was saved with {state['world_size']} ranks and cannot be found again "
                f"with {self.world_size}; resume with {state['world_size']} ranks"
            )
        self.step = state["step"]
