"""Batches that a run can leave and find again at the exact position."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tpdm.data.source import Batch, Data, Place

__all__ = ["Data", "Loader"]


class Loader(Iterator[Batch]):
    """An endless stream whose batches are functions of their place in it: one number is all that is saved.

    `batch_size` is one rank's. Reading ahead in threads changes when a batch is read, and not what it holds.
    """

    def __init__(self, data: Data, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1):
        self.data = data
        self.place = Place(seed, rank, world_size, batch_size)
        self.threads = ThreadPoolExecutor(data.workers) if data.workers else None
        self.ahead: deque[Future[Batch]] = deque()  # batches from `place` on, in order

    def __next__(self) -> Batch:
        batch = self.data.at(self.place) if self.threads is None else self.read_ahead(self.threads)
        self.place = self.place.later(1)
        return batch

    def read_ahead(self, threads: ThreadPoolExecutor) -> Batch:
        """The batch at `place`; two more for every thread are on their way."""
        while len(self.ahead) <= 2 * self.data.workers:
            self.ahead.append(threads.submit(self.data.at, self.place.later(len(self.ahead))))
        return self.ahead.popleft().result()

    def state_dict(self) -> dict[str, int]:
        """The same on every rank."""
        place = self.place
        return {"position": place.position, "world_size": place.world_size, "batch_size": place.size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on at the saved position. Raises ValueError where that belongs to other ranks or batches."""
        position = state["position"]
        now = self.state_dict()
        for key, word in (("world_size", "ranks"), ("batch_size", "samples in a batch")):
            if state[key] == now[key]:
                continue
            if not self.data.reshard:
                raise ValueError(
                    f"the data position was saved with {state[key]} {word} and cannot be found again "
                    f"with {now[key]}; resume with {state[key]} {word}, or, where the data are stored, "
                    f"set data.reshard=true to go on at the next epoch"
                )
            position = self.data.next_epoch(position)
        for future in self.ahead:
            future.cancel()
        self.ahead.clear()
        self.place = Place(self.place.seed, self.place.rank, self.place.world_size, self.place.size, position)
