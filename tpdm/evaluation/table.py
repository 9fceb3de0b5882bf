"""The table of what a predictor gained: the quality of all contestants at its mean number of calls."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from tpdm.evaluation.result import Result

Scores = Mapping[str, float]
SHARES = {"accuracy"}  # scores that are shown in per cent


@dataclass(frozen=True)
class Row:
    """One contestant. `mse` is the mean squared distance to the end of the exact ODE from the same noise."""

    name: str
    nfe: float
    nfe_std: float
    mse: float
    scores: Scores  # of the images alone, whatever made them; the same names in every row
    images_per_second: float | None  # None where only a part of what was timed is counted

    def flat(self) -> dict[str, Any]:
        """For summary.json."""
        before = {"name": self.name, "nfe": self.nfe, "nfe_std": self.nfe_std, "mse": self.mse}
        return {**before, **self.scores, "images_per_second": self.images_per_second}


class Judge:
    """Scores results on those problems where `counted` is True, on the CPU.

    `score` answers with numbers for the images of those problems.
    """

    def __init__(self, counted: Bool[Tensor, "B"], score: Callable[[Tensor], Scores]):
        self.counted, self.score = counted, score

    def row(self, name: str, result: Result) -> Row:
        nfe = result.nfe.cpu()[self.counted].float()
        return Row(
            name,
            nfe.mean().item(),
            nfe.std(correction=0).item(),
            result.squared_error.cpu()[self.counted].mean().item(),
            self.score(result.images.cpu()[self.counted].float()),
            len(result.nfe) / result.seconds if self.counted.all() else None,
        )

    def at(self, name: str, nfe: float, results: Sequence[Result]) -> Row:
        """A fixed contestant at a mean of `nfe` calls: a mixture of the two results that enclose it."""
        rows = sorted((self.row(name, result) for result in results), key=lambda row: row.nfe)
        below = max((row for row in rows if row.nfe <= nfe), key=lambda row: row.nfe, default=rows[0])
        above = min((row for row in rows if row.nfe > nfe), key=lambda row: row.nfe, default=rows[-1])
        return mix(below, above, nfe)


def mix(below: Row, above: Row, nfe: float) -> Row:
    """Some samples at one number of calls, the others at the next; times add, so rates mix as their inverses.

    A Frechet distance of such a mixture is not the mixture of the two, but lies close to it for neighbours.
    """
    span = above.nfe - below.nfe
    w = min(1.0, max(0.0, (nfe - below.nfe) / span)) if span else 0.0
    scores = {key: (1 - w) * below.scores[key] + w * above.scores[key] for key in below.scores}
    nfe, mse = ((1 - w) * a + w * b for a, b in ((below.nfe, above.nfe), (below.mse, above.mse)))
    rate = None
    if below.images_per_second and above.images_per_second:
        rate = 1 / ((1 - w) / below.images_per_second + w / above.images_per_second)
    spread = math.sqrt((1 - w) * below.nfe_std**2 + w * above.nfe_std**2 + w * (1 - w) * span**2)
    return Row(below.name, nfe, spread, mse, scores, rate)


def neighbours(nfe: float) -> tuple[int, int]:
    """The two whole numbers of steps around a mean, at least 1."""
    low = max(1, math.floor(nfe))
    return low, low + 1


def render(rows: Sequence[Row], caption: str) -> str:
    """The table as text: NFE with its spread, MSE in units of 1e-4."""
    head = ("", "mean NFE", "MSE x 1e4", *rows[0].scores, "images/s")
    lines = [
        (
            row.name,
            f"{row.nfe:.2f} +- {row.nfe_std:.2f}",
            f"{1e4 * row.mse:.2f}",
            *(f"{100 * x:.1f} %" if name in SHARES else f"{x:.3f}" for name, x in row.scores.items()),
            "" if row.images_per_second is None else f"{row.images_per_second:.0f}",
        )
        for row in rows
    ]
    widths = [max(len(line[k]) for line in (head, *lines)) for k in range(len(head))]
    text = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *lines)
    ]
    text.insert(1, "-" * len(text[0]))
    return "\n".join([caption, "", *text])
