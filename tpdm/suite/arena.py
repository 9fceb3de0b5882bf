"""The arena: every way to place the steps that there is here, on the same noises and at the same budgets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch

from tpdm.arena.camp import Camp, Runner
from tpdm.arena.contestant import Contestant, Schedule
from tpdm.arena.effort import foreseen, in_words
from tpdm.arena.leaving import KEPT, TAKEN, is_left, leave, listed
from tpdm.arena.meter import Metered, calls_per_second
from tpdm.arena.report import PAGE, write_report
from tpdm.arena.ring import Ring
from tpdm.arena.sets import Sets, Sizes, Source, check_sizes
from tpdm.arena.static import BySolver, OnGrid, Searched, Table
from tpdm.arena.store import Store, described
from tpdm.arena.telling import TIME, agreement, convexity, paragraphs, spoken
from tpdm.arena.timing import Timed
from tpdm.arena.tournament import enrolled, matches, on_the_clock, play, standings, static_errors, time_all
from tpdm.evaluation.digit_classifier import DigitClassifier
from tpdm.evaluation.digits import digit_judge
from tpdm.evaluation.table import Judge
from tpdm.registry import NonNegative, Positive, Range, register
from tpdm.runtime.provenance import provenance
from tpdm.runtime.source import source_sha256
from tpdm.runtime.workers import each, one_thread
from tpdm.sampler.fixed import FixedSampler
from tpdm.sampler.grid import Grid, Levels
from tpdm.search.problem import Problem
from tpdm.types import Condition, DataShape

FOLDER = "arena"


@register("suite", "arena")
class Arena:
    """Plays every contestant at every mean number of calls in `targets`, for every seed.

    Schedules are found on `search` noises and conditions, what errors to expect is learned on `learning`, and
    budgets are met on `matching`, once for all seeds; every seed judges on `evaluation` of its own. No two of
    these sets have a noise in common.
    `grids` are walked by the run's own step, `samplers` are diffusers' solvers, `searches` find a grid for
    the run's own step, and `contestants` are all the others. `baseline` names the schedule that all are held
    against.
    """

    def __init__(
        self,
        targets: list[Positive[int]],
        seeds: list[NonNegative[int]],
        search: Positive[int],
        learning: Annotated[int, Range(min=2)],
        matching: Positive[int],
        evaluation: Annotated[int, Range(min=2)],
        batch_size: Positive[int],
        reference_steps: Positive[int],
        timed_batch: Positive[int],
        timed_repeats: Positive[int],
        processes: Positive[int] | None,
        baseline: str,
        grids: dict[str, Grid],
        samplers: dict[str, Callable[[], FixedSampler]],
        searches: dict[str, Callable[[Problem, int], Levels]],
        contestants: dict[str, Callable[[], Contestant]],
        *,
        runner: Runner,
        made_by: Mapping[str, Any],
        data: Any,
        condition: Callable[[Any], Condition],
        shape: DataShape,
        classifier: DigitClassifier | None,
        device: torch.device,
        folder: Path,
    ):
        check_lists(targets=targets, seeds=seeds)
        self.targets, self.seeds = targets, seeds
        self.timed, self.classifier = Timed(timed_batch, timed_repeats), classifier
        named = [*contestants, *grids, *samplers, *searches]
        taking_part: dict[str, Contestant] = {
            **{name: make() for name, make in contestants.items()},
            **{name: OnGrid(grid) for name, grid in grids.items()},
            **{name: BySolver(make()) for name, make in samplers.items()},
            **{name: Searched(find) for name, find in searches.items()},
        }
        check_names(named, taking_part, baseline)
        sizes = Sizes(search, learning, matching, evaluation)
        check_sizes(sizes, seeds)
        self.folder = folder / FOLDER
        self.page = self.folder / PAGE
        source = Source(data, condition, tuple(shape), batch_size, device)
        deciding = {
            "run": described(made_by),
            "camp": source.camp(sizes),
            "reference_steps": reference_steps,
            "code": source_sha256({"tpdm.arena.tournament", digit_judge.__module__}),  # not what tells of it
        }
        store = Store(self.folder / KEPT, deciding)
        self.meter = Metered(runner.denoiser)
        sets = Sets(sizes, source, self.meter, reference_steps, store)
        self.camp = Camp(replace(runner, denoiser=self.meter), sets, taking_part, baseline, store)
        self.processes = crew(processes, device)

    def __call__(self) -> list[str]:
        """Plays, writes everything into its folder, returns the paragraphs that sum it up."""
        listed(self.folder)
        entered = enrolled(self.camp, self.targets)
        for who_and_why in entered.missing:
            print(f"suite=arena: {who_and_why}", file=sys.stderr)
        met = matches(self.camp, entered, self.targets)
        calls = foreseen(self.camp, self.seeds, met, on_the_clock(self.camp, entered), self.timed)
        if calls:
            with one_thread() if self.processes > 1 else nullcontext():
                rate = calls_per_second(self.meter.denoiser, self.camp.sets.matching)
            print(in_words(calls, rate, self.processes), file=sys.stderr)
        sets = self.camp.sets
        with self.meter.shown(calls, "arena") as tick:
            each(sets.follow, sets.pieces(self.seeds), self.processes, tick)
            rings = [self.ring(seed) for seed in self.seeds]
            play(rings, met, self.processes, tick)
            clocks = time_all(rings[0], entered, self.timed)
        rows = standings(rings, entered, clocks)
        samples = len(rings) * self.camp.sets.sizes.evaluation
        found = paragraphs(rows, len(rings), samples, self.camp.baseline)
        stuck = convexity(self.camp.baseline, static_errors(rings, self.targets))
        told = [*found, *stuck, *agreement(self.camp.baseline, self.gaps())]
        text = [*told, TIME, *(f"{key}: {spoken(value)}" for key, value in provenance().items())]
        write_report(self.folder, str(self.folder.parent), rings, rows, entered.missing, text)
        leave(self.folder, rings[0], entered.present)
        return told

    def gaps(self) -> dict[int, float]:
        """Between the starts of the baseline's search, where it has several."""
        baseline = self.camp.contestants[self.camp.baseline]
        return baseline.gaps(self.camp) if isinstance(baseline, Table) else {}

    def ring(self, seed: int) -> Ring:
        """A seed's samples, and who judges their images."""
        problems, asked = self.camp.sets.evaluation(seed)
        return Ring(seed, self.camp, problems, self.judge(asked))

    def judge(self, asked: Any) -> Judge:
        counted = torch.ones(self.camp.sets.sizes.evaluation, dtype=torch.bool)
        if self.classifier is None:
            return Judge(counted, lambda images: {})
        return digit_judge(self.classifier, self.camp.sets.source.data.asked(asked), counted)


def crew(processes: int | None, device: torch.device) -> int:
    """How many work at once, each with one thread: more threads make small networks no faster. ValueError
    where several would share a GPU."""
    if device.type != "cpu":
        if processes not in (None, 1):
            raise ValueError(f"suite.processes={processes} on {device.type}; accepted there: 1, null")
        return 1
    return processes or torch.get_num_threads()


def check_lists(**given: list[int]) -> None:
    """Raises ValueError where one is empty, or has a number twice: the same samples would count as more."""
    for key, numbers in given.items():
        if not numbers:
            raise ValueError(f"suite.{key}=[] is empty; accepted: one number or more")
        if twice := [n for n in numbers if numbers.count(n) > 1]:
            raise ValueError(f"suite.{key} holds {twice[0]} twice; accepted: every number once")


def check_names(named: list[str], contestants: Mapping[str, Contestant], baseline: str) -> None:
    """Raises ValueError where two have one name, one has the name of what the arena leaves, or one that
    another leans on, or a file, is not there or will not do."""
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"suite: two contestants are called {twice[0]}; every name is given once")
    if taken := [name for name in named if name in TAKEN]:
        raise ValueError(
            f"suite: a contestant is called {taken[0]}, as is what the arena leaves; accepted: any other name"
        )
    if strange := [name for name in named if not is_left(name)]:
        raise ValueError(
            f"suite: a contestant is called {strange[0]!r}, and files are named so; accepted: up to 100 "
            "letters, digits, _ and -, the first no -"
        )
    schedules = [name for name, contestant in contestants.items() if isinstance(contestant, Schedule)]
    if baseline not in schedules:
        accepted = ", ".join(schedules) or "none"
        raise ValueError(f"suite.baseline={baseline} is no schedule; accepted: {accepted}")
    for name, contestant in contestants.items():
        contestant.check(name, contestants)
        described(contestant)  # files that it reads are there
