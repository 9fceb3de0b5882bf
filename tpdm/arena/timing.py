"""Wall seconds of an image, a predictor's own time in them: all contestants by turns, batch after batch."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from tpdm.arena.contestant import Entry
from tpdm.arena.ring import Ring
from tpdm.arena.store import Kept


def seconds_per_image(
    ring: Ring, names: list[str], target: int, batch: int, repeats: int
) -> Mapping[str, float]:
    """The least of the repeats, since other work only adds; on the first `batch` samples of the evaluation
    set. Kept like all else."""
    rule = {"batch": batch, "repeats": repeats, "threads": torch.get_num_threads()}
    key = {"timed": {name: ring.camp.key(name) for name in names}, "target": target, **rule}

    def measured() -> Kept:
        entries = {name: ring.camp.contestants[name].enter(ring, target) for name in names}
        taken: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(repeats + 1):  # the first is for whatever is allocated at first use
            for name, entry in entries.items():
                seconds = one_turn(ring, entry, batch)
                taken[name] += [seconds] if turn else []
        return Kept({name: min(each) for name, each in taken.items()}, {})

    numbers: Mapping[str, float] = ring.camp.store.keep(f"seconds_{target}", key, measured).numbers
    return numbers


def one_turn(ring: Ring, entry: Entry, batch: int) -> float:
    on, total = ring.evaluation, 0.0
    noise, cond, seeds = on.noise[:batch], on.cond[:batch], on.seeds[:batch]
    for weight, run in entry.shares:
        start = time.perf_counter()
        run(noise, cond, seeds)
        if noise.is_cuda:
            torch.cuda.synchronize()
        total += weight * (time.perf_counter() - start)
    return total / len(noise)
