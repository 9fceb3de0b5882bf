"""Every contestant at every budget and for every seed; what is there already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from tpdm.arena.camp import Camp
from tpdm.arena.ring import Ring
from tpdm.arena.standing import Standing, mean, standing
from tpdm.arena.timing import Clocked, Timed, clocked
from tpdm.runtime.workers import each

CONVEX = 12  # steps up to which the baseline is looked at


class Match(NamedTuple):
    """A contestant at a budget, in a ring."""

    ring: int
    name: str
    target: int


class Entered(NamedTuple):
    """Who meets whom at which budgets."""

    present: Sequence[tuple[str, int]]
    absent: Sequence[tuple[str, Sequence[int], str]]  # who, at which budgets, and why

    @property
    def missing(self) -> list[str]:
        """A sentence for each who is absent."""
        return [
            f"{who} takes no part at NFE {', '.join(map(str, at))}: {why}." for who, at, why in self.absent
        ]


def enrolled(camp: Camp, targets: Sequence[int]) -> Entered:
    """Raises ValueError where the baseline has not all the schedules that others are held against."""
    if reason := camp.shortage(most := max(targets)):
        raise ValueError(
            f"suite.targets holds {most}, which takes every schedule of 1 to {most} steps of "
            f"suite.baseline={camp.baseline}; accepted: up to {camp.longest(most)}, since {reason}"
        )
    order = [camp.baseline, *(name for name in camp.contestants if name != camp.baseline)]
    present, missing = [], dict[tuple[str, str], list[int]]()
    for name in order:
        for target in targets:
            if reason := camp.absence(name, target):
                missing.setdefault((name, reason), []).append(target)
            else:
                present.append((name, target))
    return Entered(present, [(name, at, reason) for (name, reason), at in missing.items()])


def lengths(camp: Camp, targets: Sequence[int]) -> list[int]:
    """Of the baseline's schedules that are looked at: at budgets and beside them, and where convex."""
    met = {*targets, *(n + d for n in targets for d in (-1, 1)), *range(1, min(max(targets), CONVEX) + 1)}
    return [n for n in sorted(met) if 0 < n <= camp.longest(max(met))]


def matches(camp: Camp, entered: Entered, targets: Sequence[int]) -> list[tuple[str, int]]:
    """Of every ring; the baseline comes first, on which others lean."""
    met = [*((camp.baseline, n) for n in lengths(camp, targets)), *entered.present]
    return list(dict.fromkeys(met))


def play(
    rings: Sequence[Ring], met: Sequence[tuple[str, int]], processes: int, tick: Callable[[], None]
) -> None:
    """Every match; whoever is held up by a search that another process is at goes later."""
    tasks = [Match(k, *match) for match in met for k in range(len(rings))]
    each(lambda match: rings[match.ring].played(match.name, match.target), tasks, processes, tick)


def on_the_clock(camp: Camp, entered: Entered) -> dict[int, list[str]]:
    """Who is timed at each budget; bounds, which nobody can reach, take no time."""
    timed: dict[int, list[str]] = {}
    for name, target in entered.present:
        if camp.contestants[name].kind != "bound":
            timed.setdefault(target, []).append(name)
    return timed


def time_all(ring: Ring, entered: Entered, timed: Timed) -> dict[int, Clocked]:
    """By budget."""
    return {n: clocked(ring, names, n, timed) for n, names in on_the_clock(ring.camp, entered).items()}


def static_errors(rings: Sequence[Ring], targets: Sequence[int]) -> list[float]:
    """Of the baseline after 1, 2, ... steps, of all seeds together."""
    steps = range(1, min(max(targets), CONVEX) + 1)
    return [mean([ring.static(n).error.mean().item() for ring in rings]) for n in steps]


def standings(rings: Sequence[Ring], entered: Entered, clocks: dict[int, Clocked]) -> list[Standing]:
    """Of all seeds together, then of each."""
    call_s = min(clock.call_s for clock in clocks.values())
    stand = [
        standing(group, name, target, seed)
        for group, seed in [(rings, None), *(([ring], ring.seed) for ring in rings)]
        for name, target in entered.present
    ]
    return [replace(row, calls=clocks[row.target].calls.get(row.contestant), call_s=call_s) for row in stand]
