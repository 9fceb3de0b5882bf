"""What others can sample with, left in the arena's folder; what an earlier start left there goes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpdm.arena.ring import Ring
from tpdm.runtime.atomic import read_json, write_json
from tpdm.sampler.grid_file import write_table

LEFT = "left.json"  # names of what was left here, so that nothing else is ever taken for it


def leave(folder: Path, ring: Ring, present: Sequence[tuple[str, int]]) -> None:
    """NAME.json or the folder NAME, for each of those present at some budgets who found such."""
    clear(folder)
    left: list[str] = []
    for name in dict(present):
        contestant, at = ring.camp.contestants[name], [target for who, target in present if who == name]
        if contestant.leave(ring.camp, folder / name):
            left.append(name)
        if found := contestant.grids(ring, at):
            write_table(folder / f"{name}.json", found)
            left.append(f"{name}.json")
    write_json(folder / LEFT, left)


def clear(folder: Path) -> None:
    """Takes away what is listed. ValueError where that is no list of names."""
    if not (folder / LEFT).exists():
        return
    names = read_json(folder / LEFT)
    if not isinstance(names, list) or not all(map(is_name, names)):
        raise ValueError(f"{folder / LEFT} is no list of names in its folder; it was edited: delete it")
    for path in (folder / name for name in names):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (folder / LEFT).unlink()


def is_name(name: Any) -> bool:
    """Whether it is one of a file in its folder, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", "..") and Path(name).name == name
