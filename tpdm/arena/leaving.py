"""What others can sample with, left in the arena's folder; what an earlier start left there goes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpdm.arena.report import SCHEDULES
from tpdm.arena.ring import Ring
from tpdm.runtime.atomic import read_json, write_json
from tpdm.sampler.grid_file import write_table

LEFT, KEPT = "left.json", "kept"
TAKEN = (Path(LEFT).stem, Path(SCHEDULES).stem, KEPT)  # no contestant's names: what the arena itself leaves
WRITTEN = (".csv", ".html", ".png")
NAME = re.compile(r"\w[\w.-]{0,99}")


def leave(folder: Path, ring: Ring, present: Sequence[tuple[str, int]]) -> None:
    """NAME.json or the folder NAME, for each of those present at some budgets who found such."""
    for name in listed(folder):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    names = dict(present)
    may_be = [*names, *(f"{name}.json" for name in names)]
    write_json(folder / LEFT, may_be)  # where this is cut short, the next start finds what there is of them
    left: list[str] = []
    for name in names:
        contestant, at = ring.camp.contestants[name], [target for who, target in present if who == name]
        if contestant.leave(ring.camp, folder / name):
            left.append(name)
        if found := contestant.grids(ring, at):
            write_table(folder / f"{name}.json", found)
            left.append(f"{name}.json")
    write_json(folder / LEFT, left)


def listed(folder: Path) -> list[str]:
    """What an earlier start left. ValueError where its list names anything else."""
    if not (folder / LEFT).exists():
        return []
    names = read_json(folder / LEFT)
    if not isinstance(names, list) or not all(map(is_left, names)):
        raise ValueError(f"{folder / LEFT} lists what no contestant leaves; it was edited: delete it")
    return names


def is_left(name: Any) -> bool:
    """Whether a contestant may have left it: in this folder, and beside what the arena itself writes."""
    return (
        isinstance(name, str)
        and NAME.fullmatch(name) is not None
        and name.removesuffix(".json") not in TAKEN
        and Path(name).suffix not in WRITTEN
    )
