"""How long each part of a run took, over all its starts: timings.json."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from tpdm.runtime.atomic import read_record, write_json

TIMINGS = "timings.json"


class Stopwatch:
    """Adds to one part's seconds; what a kill left unsaved is not counted, like the steps it undid."""

    def __init__(self, folder: Path, part: str):
        self.folder, self.part = Path(folder), part
        self.before = read_timings(self.folder).get(part, 0.0)
        self.since = time.perf_counter()

    def save(self) -> None:
        seconds = self.before + time.perf_counter() - self.since
        write_json(self.folder / TIMINGS, {**read_timings(self.folder), self.part: round(seconds, 3)})


def read_timings(folder: Path) -> dict[str, float]:
    """Seconds of every part so far."""
    path = Path(folder) / TIMINGS
    timings = read_record(path) if path.exists() else {}
    if wrong := [part for part, seconds in timings.items() if not is_duration(seconds)]:
        raise ValueError(f"{path} has no number of seconds for {wrong[0]}; it was edited")
    return timings


def is_duration(seconds: Any) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
