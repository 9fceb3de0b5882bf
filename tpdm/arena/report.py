"""What the arena leaves: arena.csv, schedules.json, two plots, and a page with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpdm.arena.looks import pictures
from tpdm.arena.ring import Ring
from tpdm.arena.standing import Standing
from tpdm.arena.telling import spoken
from tpdm.runtime.atomic import write_json, write_text
from tpdm.runtime.page import document, embedded, gallery, paragraphs, table
from tpdm.runtime.plots import png
from tpdm.runtime.rows import as_csv

TABLE, SCHEDULES, PAGE = "arena.csv", "schedules.json", "report.html"


def write_report(
    folder: Path,
    title: str,
    rings: Sequence[Ring],
    rows: Sequence[Standing],
    missing: Sequence[str],
    text: Sequence[str],
) -> None:
    """`text` are the paragraphs of the page; below them stand the `missing`, at its end what was found."""
    pooled = [row for row in rows if row.seed is None]
    write_text(folder / TABLE, as_csv([row.cells() for row in rows]))
    write_json(folder / SCHEDULES, schedules(rings, pooled))
    plots = pictures(pooled, rings[0].camp)
    for name, (_, picture) in plots.items():
        png(picture, folder / name)
    cells = table([row.cells() for row in pooled])
    shown = gallery({across: embedded(picture) for across, picture in plots.values()}, kind="plot")
    found = table(found_cells(rings, pooled), "What was found")
    write_text(folder / PAGE, document(title, paragraphs([*text, *missing]), shown, cells, found))


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
