"""Every contestant at every budget and for every seed; what is there already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from tpdm.arena.camp import Camp
from tpdm.arena.ring import Ring
from tpdm.arena.standing import Standing, standing
from tpdm.arena.timing import seconds_per_image
from tpdm.runtime.progress import Progress


class Timed(NamedTuple):
    """How seconds are measured: images of a batch, and how often everybody has a turn."""

    batch: int
    repeats: int


class Played(NamedTuple):
    standings: Sequence[Standing]  # of all seeds together, then of each
    absent: Sequence[tuple[str, Sequence[int], str]]  # who, at which budgets, and why


def play(
    camp: Camp, make_rings: Sequence[Callable[[], Ring]], targets: Sequence[int], timed: Timed
) -> Played:
    """A ring is made when its turn has come, since the ends of its ODEs take time."""
    check_baseline(camp, targets)
    matches = [(name, target) for name in order(camp) for target in targets]
    present = [(name, target) for name, target in matches if not camp.absence(name, target)]
    rings: list[Ring] = []
    with Progress(len(present) * len(make_rings) + len(targets), "arena") as progress:
        for make in make_rings:
            rings.append(make())
            for name, target in present:
                rings[-1].played(name, target)
                progress.advance(seed=str(rings[-1].seed), nfe=str(target), contestant=name)
        seconds = {}
        for target in targets:
            names = [name for name, at in present if at == target and camp.contestants[name].kind != "bound"]
            for name, value in seconds_per_image(rings[0], names, target, *timed).items():
                seconds[name, target] = value
            progress.advance(nfe=str(target), contestant="seconds")
    stand: list[Standing] = []
    for group, seed in [(rings, None), *(([ring], ring.seed) for ring in rings)]:
        stand += [standing(group, name, target, seed) for name, target in present]
    timings = [replace(row, seconds=seconds.get((row.contestant, row.target))) for row in stand]
    return Played(timings, absences(camp, matches))


def check_baseline(camp: Camp, targets: Sequence[int]) -> None:
    """Raises ValueError where nothing could be held against the baseline."""
    for target in targets:
        if reason := camp.absence(camp.baseline, target):
            raise ValueError(f"suite.baseline={camp.baseline} takes no part at NFE {target}: {reason}")


def order(camp: Camp) -> list[str]:
    """The baseline first, which others lean on."""
    return [camp.baseline, *(name for name in camp.contestants if name != camp.baseline)]


def absences(camp: Camp, matches: Sequence[tuple[str, int]]) -> list[tuple[str, Sequence[int], str]]:
    missing: dict[tuple[str, str], list[int]] = {}
    for name, target in matches:
        if reason := camp.absence(name, target):
            missing.setdefault((name, reason), []).append(target)
    return [(name, targets, reason) for (name, reason), targets in missing.items()]
