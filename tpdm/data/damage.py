"""Samples that cannot be read: skipped, counted, listed, and too many of them the end of the run."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Damage:
    """Why one sample is skipped; `row` is its number, None where it was never given one."""

    shard: str
    key: str
    reason: str
    row: int | None = None

    def __str__(self) -> str:
        return f"{self.shard}: {self.key}: {self.reason}"


class UnreadableError(Exception):
    """Raised where one sample is read, with what is wrong with it."""


class DamagedError(Exception):
    """Raised by a reader, with everything that was wrong in what it was asked for."""

    def __init__(self, damages: Sequence[Damage]):
        super().__init__("; ".join(map(str, damages)))
        self.damages = damages


class TooManySkippedError(ValueError):
    """More samples are damaged than `data.max_skipped` allows."""


class Skipped:
    """What was skipped of `total` samples, on file as `skipped.jsonl` where there is a `path`."""

    def __init__(self, total: int, max_skipped: float, path: Path | None):
        self.total, self.max_skipped, self.path = total, max_skipped, path
        self.rows: set[int] = set()
        self.damages: dict[tuple[str, str], Damage] = {}
        self._lock = threading.Lock()

    def add(self, damages: Sequence[Damage]) -> None:
        """Lists what is new. Raises TooManySkippedError past the limit, or where nothing is left."""
        with self._lock:
            for damage in damages:
                if damage.row is not None:
                    self.rows.add(damage.row)
                if (damage.shard, damage.key) not in self.damages:
                    self.damages[damage.shard, damage.key] = damage
                    self._write(damage)
            count = len(self.damages)
        if count > math.floor(self.max_skipped * self.total) or count >= self.total:
            raise TooManySkippedError(
                f"{count} of {self.total} samples are damaged, more than "
                f"data.max_skipped={self.max_skipped:g} allows; the last: {damages[-1]}"
            )

    def _write(self, damage: Damage) -> None:
        """Appends a line, unless the file of a resumed run has it already."""
        if self.path is None:
            return
        entry = {key: value for key, value in asdict(damage).items() if key != "row"}
        line = json.dumps(entry, ensure_ascii=False)
        with open(self.path, "a+", encoding="utf-8") as file:
            file.seek(0)
            if line not in file.read().splitlines():
                file.write(line + "\n")
