"""Error against calls, and against time: a curve for each contestant, which looks the same in every arena."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from zlib import crc32

from PIL import Image

from tpdm.arena.camp import Camp
from tpdm.arena.standing import Standing
from tpdm.runtime.pareto import Curve, Look, pareto
from tpdm.runtime.plots import INK, OKABE_ITO

BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, _ = OKABE_ITO
NAMED = {  # a bound has the colour of whoever makes the choice that it bounds
    "adaptive": (BLUE, "o"),
    "first_order": (VERMILION, "s"),
    "time_only": (GREEN, "^"),
    "controlled": (PINK, "D"),
    "allocator": (ORANGE, "v"),
    "oracle_steps": (ORANGE, "v"),
    "one_shot": (SKY, "P"),
    "oracle_shape": (SKY, "P"),
}
OTHERS = list(product(("#6A3D9A", "#8C564B", "#17807E", "#B8860B"), "X<>ph*"))
ERROR = "mean squared error against the exact ODE"
CALLS, TIME = "pareto_nfe.png", "pareto_seconds.png"


def pictures(pooled: Sequence[Standing], camp: Camp) -> dict[str, tuple[str, Image.Image]]:
    """By their files' names, with what stands across."""
    budgets = sorted({row.target for row in pooled})
    longest = max([row.calls for row in pooled if row.calls is not None], default=0.0)
    return {
        CALLS: drawn(curves(pooled, "nfe", camp), "mean denoiser calls of an image (NFE)", budgets),
        TIME: drawn(curves(pooled, "calls", camp), in_calls(pooled), range(1, math.ceil(longest) + 1)),
    }


def drawn(series: Sequence[Curve], across: str, ticks: Sequence[float]) -> tuple[str, Image.Image]:
    return across, pareto(series, across, ERROR, ticks)


def in_calls(pooled: Sequence[Standing]) -> str:
    """What stands below an axis of time."""
    call_s = min(row.call_s for row in pooled)
    return f"time of an image, in denoiser calls (of which the quickest took {1000 * call_s:.3g} ms)"


def curves(pooled: Sequence[Standing], x: str, camp: Camp) -> list[Curve]:
    """Of everybody who has an `x`. The baseline, bounds and those that adapt by themselves have a look."""
    made = []
    for name in dict.fromkeys(row.contestant for row in pooled):
        rows = [row for row in pooled if row.contestant == name and getattr(row, x) is not None]
        if rows:
            rows.sort(key=lambda row: row.target)
            points = [getattr(row, x) for row in rows], [row.mse for row in rows]
            made.append(Curve(called(name, camp), *points, look(name, camp)))
    return made


def called(name: str, camp: Camp) -> str:
    """With what a reader has to know of it."""
    if name == camp.baseline:
        return f"{name} (baseline)"
    return f"{name} (bound)" if camp.contestants[name].kind == "bound" else name


def look(name: str, camp: Camp) -> Look | None:
    """A contestant's own, whoever else takes part; None where it is one of the crowd. The baseline is thin,
    so that whoever does as it does is seen below it."""
    if name == camp.baseline:
        return Look(INK, "o", 1.4, "-")
    contestant = camp.contestants[name]
    colour, marker = NAMED.get(name) or OTHERS[crc32(name.encode()) % len(OTHERS)]
    if contestant.kind == "bound":
        return Look(colour, marker, 1.8, "--")
    return Look(colour, marker, 3.0, "-") if contestant.adapts else None
