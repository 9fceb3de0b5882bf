"""The runs of a sweep beside each other: who is done, who came how far, and at what price."""

from __future__ import annotations

import base64
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpdm.launcher.states import GONE, QUEUED, RUNNING, states
from tpdm.launcher.sweep import DONE, Sent, Sweep
from tpdm.runtime.atomic import read_record, write_text
from tpdm.runtime.page import Point, page
from tpdm.runtime.rows import as_csv

LEADERBOARD, PAGE, HPARAMS = "leaderboard.csv", "report.html", "hparams"
NUMBERS = ("nfe", "nfe_std", "mse", "frechet", "accuracy", "images_per_second", "seconds")
BEST_FIRST = "mse"
NOTHING: Mapping[str, float | None] = dict.fromkeys(NUMBERS)


@dataclass(frozen=True)
class Row:
    """A job, and what its run's summary.json says of its own schedule on all scenes."""

    job: Sent
    state: str  # queued, running, done, failed
    numbers: Mapping[str, float | None]
    commit: str | None
    why: str | None = None  # it failed

    def cells(self) -> dict[str, Any]:
        return {"run": self.job.name, **self.job.swept, "state": self.state, **self.numbers,
                "commit": self.commit, "job": self.job.id}  # fmt: skip


def report(folder: Path) -> None:
    """Prints the state of every job; writes the table, the page and TensorBoard's HParams."""
    sweep = Sweep.open(folder)
    table = rows(sweep)
    for row in table:
        print(f"{row.state:<8} {row.job.id:<12} {row.job.name}" + (f": {row.why}" if row.why else ""))
    counts = {
        state: sum(row.state == state for row in table) for state in ("done", RUNNING, QUEUED, "failed")
    }
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    write_text(folder / LEADERBOARD, as_csv([row.cells() for row in table]))
    write_text(folder / PAGE, as_page(sweep, table))
    write_hparams(folder / HPARAMS, [row for row in table if row.state == "done"])
    print(f"{folder / LEADERBOARD}, {folder / PAGE}; tensorboard --logdir {folder / HPARAMS}")


def rows(sweep: Sweep) -> list[Row]:
    """The best first, and those without a result after them."""
    jobs = list(sweep.sent().values())
    known: dict[str, str] = {}
    for cluster in {job.cluster for job in jobs}:
        known |= states(
            [job.id for job in jobs if job.cluster == cluster and not sweep.done(job.name)], cluster
        )
    found = [_row(sweep, job, known.get(job.id, GONE)) for job in jobs]
    return sorted(found, key=lambda row: (row.numbers[BEST_FIRST] is None, row.numbers[BEST_FIRST] or 0))


def _row(sweep: Sweep, job: Sent, state: str) -> Row:
    path, results = sweep.folder / job.name / DONE, sweep.results(job)
    errors = [text for text in results.values() if text is not None]
    ended = len(results) == job.ranks
    if sweep.done(job.name) or (ended and not errors and job.summarised):
        try:
            return Row(job, "done", *_read(path))
        except ValueError as damage:  # one of many: the others are told of all the same
            return _failed(job, f"{damage}; without that file the same command makes it again")
    if ended and errors:
        return _failed(job, errors[0].rstrip().rpartition("\n")[2])
    if not ended and state not in (QUEUED, RUNNING):
        return _failed(job, f"left no result ({state})")
    return Row(job, "done" if ended else state, NOTHING, None)


def _failed(job: Sent, why: str) -> Row:
    return Row(job, "failed", NOTHING, None, why)


def _read(path: Path) -> tuple[dict[str, float | None], str | None]:
    """The numbers and the commit of a run's summary. Raises ValueError where it is missing or damaged."""
    summary = read_record(path)
    try:
        tables = summary.get("tables") or {"": [{}]}  # evaluation=none leaves none
        first = next(iter(tables.values()))[0]
        found = {**first, "seconds": round(sum(summary["seconds"].values()), 1)}
        return {name: _number(found.get(name)) for name in NUMBERS}, summary["commit"]
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as wrong:
        seen = f"{type(wrong).__name__}: {wrong}"
        raise ValueError(f"{path} is no summary of a run ({seen}); it was cut short or edited") from None


def _number(value: Any) -> float | None:
    """A figure that can be drawn."""
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{value} is no figure")
    return value


def as_page(sweep: Sweep, table: Sequence[Row]) -> str:
    points = [
        Point(row.job.name, float(row.numbers["nfe"] or 0), float(row.numbers[BEST_FIRST] or 0))
        for row in table
        if row.numbers["nfe"] is not None and row.numbers[BEST_FIRST] is not None
    ]
    pictures = {row.job.name: _picture(sweep.folder / row.job.name / "samples.png") for row in table}
    axes = ("denoiser calls (NFE)", "mean squared error against the exact ODE")
    return page(sweep.folder.name, [row.cells() for row in table], points, axes, pictures)


def _picture(path: Path) -> str | None:
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else None


def write_hparams(folder: Path, table: Sequence[Row]) -> None:
    """A session for each run, anew."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    for row in table:
        metrics = {name: float(value) for name, value in row.numbers.items() if value is not None}
        with SummaryWriter(str(folder)) as writer:
            writer.add_hparams(dict(row.job.swept), metrics, run_name=row.job.name)
