"""What an arena will take, told before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tpdm.arena.camp import Camp
from tpdm.arena.timing import Timed, record

LONG_S = 3600  # from here on smaller sizes are named
SMALLER = "suite.seeds=[0] suite.targets=[4,8] suite.search=256 suite.learning=1024 suite.evaluation=256"


def foreseen(
    camp: Camp,
    seeds: Sequence[int],
    met: Sequence[tuple[str, int]],
    clocks: Mapping[int, Sequence[str]],
    timed: Timed,
) -> int:
    """About how many denoiser calls are still to be made; what is kept already makes none. `clocks` are those
    that are timed at each budget, on samples of the first seed."""
    left = [match for match in met for seed in seeds if not camp.store.has(*camp.record(*match, seed))]
    playing = sum(camp.contestants[name].playing(target) for name, target in left)
    calls = camp.sets.ends_to_find(seeds) + camp.sets.sizes.evaluation * playing
    for name in dict.fromkeys(name for name, _ in left):
        targets = [target for other, target in met if other == name]
        if len(targets) * len(seeds) == sum(other == name for other, _ in left):  # it has not begun
            calls += camp.contestants[name].finding(camp, targets)
    to_time = {
        n: names
        for n, names in clocks.items()
        if not camp.store.has(*record(camp, names, n, seeds[0], timed))
    }
    return calls + sum(timing(camp, names, target, timed) for target, names in to_time.items())


def timing(camp: Camp, names: Sequence[str], target: int, timed: Timed) -> int:
    """How many calls are made to time them at a budget: each has its turns, and as many bare calls stand
    beside every turn; all of it begins with one sample of each and twice the bare calls."""
    batch = min(timed.batch, camp.sets.sizes.evaluation)
    playing = sum(camp.contestants[name].playing(target) for name in names)
    return playing + batch * (2 * target + timed.repeats * (playing + len(names) * target))


def in_words(calls: int, rate: float, processes: int) -> str:
    """A line for whoever has started it: `rate` is of one process, in calls a second."""
    seconds = calls / (rate * processes)
    took = f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"
    each = f", {processes} processes" if processes > 1 else ""
    told = f"suite=arena: about {calls:,} denoiser calls, {rate:,.1f} a second here{each}: {took}"
    return f"{told}. Smaller: {SMALLER}" if seconds > LONG_S else told
