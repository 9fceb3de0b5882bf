"""Denoiser calls, by which an arena's time is counted: in all processes, and shown with the time left."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.evaluation.result import Problems
from tpdm.runtime.progress import Progress
from tpdm.scheduler.path import retimed
from tpdm.types import Condition, DenoiserLike, Prediction

LONG_ENOUGH_S = 0.2  # to tell a rate by


class Metered:
    """The same denoiser, with a count of the samples that it was asked about: also by processes that were
    forked from this one, which alone shows it."""

    def __init__(self, denoiser: DenoiserLike):
        self.denoiser, self.scheduler = denoiser, denoiser.scheduler
        self._count, self._owner = multiprocessing.Value("q", 0), os.getpid()
        self._tick: Callable[[], None] | None = None

    def __call__(self, x: Float[Tensor, "B C H W"], t: Float[Tensor, "B"], cond: Condition) -> Prediction:
        p = self.denoiser(x, t, cond)
        with self._count.get_lock():
            self._count.value += len(x)
        if self._tick is not None and os.getpid() == self._owner:
            self._tick()
        return p

    @property
    def calls(self) -> int:
        return self._count.value

    @contextmanager
    def shown(self, foreseen: int, name: str) -> Iterator[Callable[[], None]]:
        """A bar of the calls made inside, to be brought up to date by what is yielded."""
        with Progress(foreseen, name, unit="call") as progress:
            seen = self.calls

            def tick() -> None:
                nonlocal seen
                now = self.calls
                progress.advance(now - seen)
                seen = now

            self._tick = tick
            try:
                yield tick
            finally:
                tick()
                self._tick = None
            progress.end()


@torch.no_grad()
def calls_per_second(denoiser: DenoiserLike, problems: Problems) -> float:
    """By ever larger batches, up to the problems' own, until one takes a while. Each is asked about twice:
    what is allocated and prepared for the first time takes longer."""
    asked, size = retimed(denoiser), 1
    while True:
        x, cond = problems.noise[:size], problems.cond[:size]
        took = math.inf
        for _ in range(2):
            start = time.perf_counter()
            asked(x, x.new_full((len(x),), 0.5), cond).x0.sum().item()  # waits for a GPU, too
            took = min(took, time.perf_counter() - start)
        if took > LONG_ENOUGH_S or size >= min(problems.batch_size, len(problems.noise)):
            return len(x) / took
        size *= 2
