"""What a suite measures: ratios of times, each with the goal it is held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True)
class Ratio:
    """One number per repeat, of times taken right after each other, so that a busy machine slows both."""

    name: str
    values: list[float]
    sense: Literal["at least", "at most"]
    goal: float | None  # None: there is nothing that it is held against

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.median >= self.goal if self.sense == "at least" else self.median <= self.goal

    def __str__(self) -> str:
        spread = f"{min(self.values):.2f} to {max(self.values):.2f} over {len(self.values)} repeats"
        measured = f"{self.name}: {self.median:.2f} ({spread})"
        verdict = "met" if self.met else "missed"
        return measured if self.goal is None else f"{measured}; goal {self.sense} {self.goal}: {verdict}"

    def record(self) -> dict[str, Any]:
        return {**vars(self), "median": self.median, "met": self.met}


@dataclass(frozen=True)
class Measured:
    """A suite's result, and what was worked on while it was measured."""

    ratios: list[Ratio]
    facts: dict[str, Any]
    lines: list[str] = field(default_factory=list)  # told beside the ratios
