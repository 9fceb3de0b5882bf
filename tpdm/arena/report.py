"""What the arena leaves: arena.csv, schedules.json, two plots, and a page with all of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpdm.arena.ring import Ring
from tpdm.arena.standing import Standing
from tpdm.arena.telling import spoken
from tpdm.runtime.atomic import write_json, write_text
from tpdm.runtime.page import document, gallery, paragraphs, table
from tpdm.runtime.plots import Curve, pareto, png
from tpdm.runtime.rows import as_csv

TABLE, SCHEDULES, PAGE = "arena.csv", "schedules.json", "report.html"
ERROR = "mean squared error against the exact ODE"
PLOTS = {"pareto_nfe.png": "mean denoiser calls (NFE)", "pareto_seconds.png": "seconds of an image"}


def write_report(
    folder: Path,
    title: str,
    rings: Sequence[Ring],
    rows: Sequence[Standing],
    absent: Sequence[tuple[str, Sequence[int], str]],
    text: Sequence[str],
) -> None:
    """`text` are the paragraphs of the page; below them is told who was absent, at its end what was found."""
    pooled = [row for row in rows if row.seed is None]
    write_text(folder / TABLE, as_csv([row.cells() for row in rows]))
    write_json(folder / SCHEDULES, schedules(rings, pooled))
    for (name, xlabel), x in zip(PLOTS.items(), ("nfe", "seconds"), strict=True):
        ticks = sorted({row.target for row in pooled}) if x == "nfe" else None
        png(pareto(curves(pooled, x, rings[0]), xlabel, ERROR, ticks), folder / name)
    missing = [f"{who} took no part at NFE {', '.join(map(str, at))}: {why}." for who, at, why in absent]
    cells = table([row.cells() for row in pooled])
    plots = gallery({PLOTS[name]: as_url(folder / name) for name in PLOTS}, kind="plot")
    found = table(found_cells(rings, pooled), "What was found")
    write_text(folder / PAGE, document(title, paragraphs([*text, *missing]), plots, cells, found))


def as_url(path: Path) -> str:
    """A picture's own content, for a page that asks for no other file."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def schedules(rings: Sequence[Ring], pooled: Sequence[Standing]) -> dict[str, Any]:
    """{contestant: {budget: {seed: what was found}}}; levels are what sampler/grid=learned reads."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in pooled:
        at = found.setdefault(row.contestant, {}).setdefault(str(row.target), {})
        for ring in rings:
            at[str(ring.seed)] = dict(ring.played(row.contestant, row.target).found)
    return found


def found_cells(rings: Sequence[Ring], pooled: Sequence[Standing]) -> list[dict[str, Any]]:
    """For a table: what a contestant found at a budget, once for all seeds that it is the same for."""
    rows: list[dict[str, Any]] = []
    for row in pooled:
        seeds: dict[str, list[int]] = {}
        for ring in rings:
            seeds.setdefault(spoken(ring.played(row.contestant, row.target).found), []).append(ring.seed)
        rows += [
            {
                "contestant": row.contestant,
                "target": row.target,
                "seed": "all" if len(at) == len(rings) else ", ".join(map(str, at)),
                "found": text,
            }
            for text, at in seeds.items()
            if text
        ]
    return rows


def curves(pooled: Sequence[Standing], x: str, ring: Ring) -> list[Curve]:
    """A curve for each contestant; the baseline, bounds and those that adapt by themselves have a look, which
    is the same whoever else is shown."""
    camp, made = ring.camp, []
    shown = [
        name
        for name, one in camp.contestants.items()
        if name == camp.baseline or one.kind == "bound" or one.adapts
    ]
    for name in dict.fromkeys(row.contestant for row in pooled):
        rows = [row for row in pooled if row.contestant == name and getattr(row, x) is not None]
        if rows:
            rows.sort(key=lambda row: row.target)
            points = [getattr(row, x) for row in rows], [row.mse for row in rows]
            look = shown.index(name) if name in shown else None
            made.append(Curve(name, *points, look, dashed=rows[0].kind == "bound"))
    return made
