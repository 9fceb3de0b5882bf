"""The arena: every way to place the steps that there is here, on the same noises and at the same budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch

from tpdm.arena.contestant import Contestant
from tpdm.arena.report import write_report
from tpdm.arena.ring import Ring, Runner
from tpdm.arena.sets import Sets, Sizes, draw_sets, exact_ends, with_ends
from tpdm.arena.static import BySolver, OnGrid, Searched
from tpdm.arena.store import Kept, Store, described
from tpdm.arena.telling import convexity, paragraph
from tpdm.arena.tournament import Timed, play
from tpdm.evaluation.digit_classifier import DigitClassifier
from tpdm.evaluation.digits import digit_judge
from tpdm.evaluation.result import Problems
from tpdm.evaluation.table import Judge
from tpdm.registry import NonNegative, Positive, Range, register
from tpdm.runtime.progress import Progress
from tpdm.runtime.provenance import provenance
from tpdm.runtime.source import source_sha256
from tpdm.sampler.fixed import FixedSampler
from tpdm.sampler.grid import Grid
from tpdm.search.problem import Levels, Problem
from tpdm.types import Condition, DataShape

FOLDER, KEPT = "arena", "kept"


@register("suite", "arena")
class Arena:
    """Plays every contestant at every mean number of calls in `targets`, for every seed.

    A seed has four sets without a noise in common: `search` to find schedules on, `learning` to learn what
    errors to expect, `matching` to meet the budget on, `evaluation` to be judged on. `grids` are walked by
    the run's own step, `samplers` are diffusers' solvers, `searches` find a grid for the run's own step, and
    `contestants` are all the others.
    `baseline` names the static schedule that all are held against.
    """

    def __init__(
        self,
        targets: list[Positive[int]],
        seeds: list[NonNegative[int]],
        search: Positive[int],
        learning: Annotated[int, Range(min=2)],
        matching: Positive[int],
        evaluation: Positive[int],
        batch_size: Positive[int],
        reference_steps: Positive[int],
        timed_batch: Positive[int],
        timed_repeats: Positive[int],
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
        self.targets, self.seeds, self.baseline = targets, seeds, baseline
        self.sizes, self.reference_steps = Sizes(search, learning, matching, evaluation), reference_steps
        self.timed = Timed(timed_batch, timed_repeats)
        self.contestants: dict[str, Contestant] = {
            **{name: make() for name, make in contestants.items()},
            **{name: OnGrid(grid) for name, grid in grids.items()},
            **{name: BySolver(make()) for name, make in samplers.items()},
            **{name: Searched(find) for name, find in searches.items()},
        }
        named = [*contestants, *grids, *samplers, *searches]
        check_names(named, self.contestants, baseline)
        self.draw = partial(
            draw_sets,
            sizes=self.sizes,
            data=data,
            condition=condition,
            shape=tuple(shape),
            batch_size=batch_size,
            device=device,
        )
        self.runner, self.data, self.classifier, self.folder = runner, data, classifier, folder / FOLDER
        self.store = Store(self.folder / KEPT, self.deciding(made_by))

    def __call__(self) -> str:
        """Plays, writes everything into its folder, returns the paragraph that sums it up."""
        made: dict[int, Ring] = {}

        def make(seed: int) -> Ring:
            made[seed] = self.ring(seed)
            return made[seed]

        played = play([partial(make, seed) for seed in self.seeds], self.targets, self.timed)
        rings = [made[seed] for seed in self.seeds]
        told = paragraph(played.standings, len(rings), len(rings) * self.sizes.evaluation, self.baseline)
        most = min(max(self.targets), 12)
        text = [told, convexity(rings[0], most), *(f"{key}: {value}" for key, value in provenance().items())]
        write_report(self.folder, str(self.folder.parent), rings, played, text)
        return told

    def ring(self, seed: int) -> Ring:
        """A seed's sets with their ends, which are kept too."""
        sets: Sets = self.draw(seed)
        with Progress(len(vars(self.sizes)), f"exact ends, seed {seed}") as progress:
            for name in vars(self.sizes):
                problems = getattr(sets, name)
                sets = replace(sets, **{name: with_ends(problems, self.ends(name, seed, problems))})
                progress.advance()
        return Ring(seed, self.runner, sets, self.judge(sets), self.contestants, self.baseline, self.store)

    def ends(self, name: str, seed: int, problems: Problems) -> torch.Tensor:
        def follow() -> Kept:
            return Kept({}, {"ends": exact_ends(problems, self.runner.denoiser, self.reference_steps)})

        kept = self.store.keep(f"ends_{name}_seed{seed}", {"ends": name, "seed": seed}, follow)
        return kept.tensors["ends"].to(problems.noise)

    def judge(self, sets: Sets) -> Judge:
        counted = torch.ones(self.sizes.evaluation, dtype=torch.bool)
        if self.classifier is None:
            return Judge(counted, lambda images: {})
        return digit_judge(self.classifier, self.data.asked(sets.asked), counted)

    def deciding(self, made_by: Mapping[str, Any]) -> dict[str, Any]:
        """Of every result: the run, the sets, the code."""
        modules = {__name__, *(type(one).__module__ for one in self.contestants.values())}
        return {
            "run": described(made_by),
            "sizes": vars(self.sizes),
            "reference_steps": self.reference_steps,
            "code": source_sha256(modules),
        }


def check_names(named: list[str], contestants: Mapping[str, Contestant], baseline: str) -> None:
    """Raises ValueError where two have one name, or one that another leans on is not there."""
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"suite: two contestants are called {twice[0]}; every name is given once")
    accepted = ", ".join(contestants)
    if baseline not in contestants:
        raise ValueError(f"suite.baseline={baseline} is no contestant; accepted: {accepted}")
    for name, contestant in contestants.items():
        for other in contestant.leans_on():
            if other not in contestants:
                raise ValueError(
                    f"suite.contestants.{name}.of={other} is no contestant; accepted: {accepted}"
                )
