"""Wall seconds of an image, a predictor's own time in them, beside those of a denoiser call just then."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

import torch
from torch import Tensor

from tpdm.arena.camp import Camp
from tpdm.arena.contestant import Entry
from tpdm.arena.ring import Ring
from tpdm.arena.store import Kept, Key
from tpdm.evaluation.result import Problems
from tpdm.scheduler.path import retimed
from tpdm.types import Condition


class Timed(NamedTuple):
    """How time is measured: images of a batch, and how often everybody has a turn."""

    batch: int
    repeats: int


class Turn(NamedTuple):
    seconds: float  # of an image
    nfe: float


class Clocked(NamedTuple):
    calls: Mapping[str, float]  # how many denoiser calls of the same batch take as long
    call_s: float  # seconds of one, for an image


def record(camp: Camp, names: Sequence[str], target: int, seed: int, timed: Timed) -> tuple[str, Key]:
    """Where it is kept how long they take, and what decides that."""
    rule = {**timed._asdict(), "threads": torch.get_num_threads()}
    return f"seconds_{target}", {"timed": [camp.record(name, target, seed) for name in names], **rule}


def clocked(ring: Ring, names: Sequence[str], target: int, timed: Timed) -> Clocked:
    """On the first samples of the evaluation set, by turns. Kept like all else.

    What else runs on the machine slows a call as it slows who makes it: a turn is divided by the mean of bare
    calls, as many before it and as many after it as the budget has, so that both sides last alike, and by
    the calls that were made in it, since those of few samples are not those of all; the median of the turns
    counts. Of the calls themselves the quickest do, since other work only adds.
    """

    def measured() -> Kept:
        entries = {name: ring.camp.contestants[name].enter(ring, target) for name in names}
        for entry in entries.values():
            one_turn(ring, entry, 1)  # whatever is imported and allocated at first use
        bare_calls(ring, timed.batch, target)
        turns: dict[str, list[float]] = {name: [] for name in names}
        calls = [bare_calls(ring, timed.batch, target)]
        for _ in range(timed.repeats):
            for name, entry in entries.items():
                turn = one_turn(ring, entry, timed.batch)
                calls.append(bare_calls(ring, timed.batch, target))
                turns[name].append(turn.seconds / turn.nfe / fmean(calls[-2:]))
        nfe = {name: ring.played(name, target).nfe.mean().item() for name in entries}
        worth = {name: nfe[name] * median(turns[name]) for name in entries}
        return Kept({"calls": worth, "call_s": min(calls)}, {})

    numbers = ring.camp.store.keep(*record(ring.camp, names, target, ring.seed, timed), measured).numbers
    return Clocked(numbers["calls"], numbers["call_s"])


def one_turn(ring: Ring, entry: Entry, batch: int) -> Turn:
    noise, cond, seeds = first(ring.evaluation, batch)
    seconds, nfe = 0.0, 0.0
    for weight, run in entry.shares:
        start = time.perf_counter()
        drawn = run(noise, cond, seeds)
        waited(noise)
        seconds += weight * (time.perf_counter() - start)
        nfe += weight * drawn.nfe.double().mean().item()
    return Turn(seconds / len(noise), nfe)


@torch.no_grad()
def bare_calls(ring: Ring, batch: int, count: int) -> float:
    """Seconds of an image in one of so many calls, and nothing beside them."""
    noise, cond, _ = first(ring.evaluation, batch)
    runner = ring.camp.runner
    t = noise.new_full((len(noise),), runner.t_max)
    asked, start = retimed(runner.denoiser), time.perf_counter()
    for _ in range(count):
        asked(noise, t, cond)
    waited(noise)
    return (time.perf_counter() - start) / (count * len(noise))


def first(problems: Problems, batch: int) -> tuple[Tensor, Condition, Sequence[int]]:
    return problems.noise[:batch], problems.cond[:batch], problems.seeds[:batch]


def waited(x: Tensor) -> None:
    """Until the GPU has done what it was asked."""
    if x.is_cuda:
        torch.cuda.synchronize()
