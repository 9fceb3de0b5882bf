"""The same images by several schedules beside each other: the table, the figures, the plots and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev, stdev
from typing import Any

import torch
from PIL import Image

from tpdm.evaluation.records import Record, Records, finite
from tpdm.runtime.page import document, embedded, gallery, table, thumbnail
from tpdm.runtime.plots import Estimate, against_calls, schedules
from tpdm.runtime.rows import as_csv

SHOWN = 32  # prompts whose images the page shows
CELLS = ("image", "prompt", "seed", "schedule", "nfe")


@dataclass(frozen=True)
class Comparison:
    """Every schedule's records of the same images, in the order of the images; the predictor's come first.

    `fixed` are the schedules of a number of steps each, the most last; `matched` is the one of the same kind
    with as many calls as the predictor takes; `rewards` are the names of the scores.
    """

    of: Mapping[str, Sequence[Record]]
    fixed: Sequence[str]
    matched: str
    rewards: Sequence[str]

    @property
    def own(self) -> Sequence[Record]:
        """The predictor's."""
        return next(iter(self.of.values()))

    def measured(self, schedule: str, reward: str) -> Estimate:
        """Mean calls, mean reward and its standard error, over the images that were judged."""
        records = self.of[schedule]
        return Estimate(fmean(r.nfe for r in records), *mean_and_error([r.scores[reward] for r in records]))

    def rows(self) -> list[dict[str, Any]]:
        """One for each schedule."""
        return [self.row(schedule) for schedule in self.of]

    def row(self, schedule: str) -> dict[str, Any]:
        calls = [record.nfe for record in self.of[schedule]]
        row: dict[str, Any] = {"schedule": schedule, "nfe": fmean(calls), "nfe_std": pstdev(calls)}
        for reward in self.rewards:
            _, mean, error = self.measured(schedule, reward)
            row |= {reward: finite(mean), f"{reward} +-": finite(error)}
        return row

    def cells(self) -> list[dict[str, Any]]:
        """One row for each image and schedule."""
        return [
            {name: getattr(record, name) for name in CELLS} | dict(record.scores)
            for records in self.of.values()
            for record in records
        ]

    def as_csv(self) -> str:
        """The same with times and files; a score that is no number is left empty."""
        return as_csv(
            [
                {
                    **{name: getattr(record, name) for name in CELLS},
                    "times": " ".join(f"{t:.6g}" for t in record.times),
                    **{reward: record.scores[reward] for reward in self.rewards},
                    "file": record.file,
                }
                for records in self.of.values()
                for record in records
            ]
        )

    def figures(self) -> dict[str, Any]:
        """What a model card tells: rewards with their standard errors, beside the longest fixed schedule's.

        The two share their noises, so that the mean of the differences is known better than either mean.
        """
        prompts, calls = {record.prompt for record in self.own}, fmean(record.nfe for record in self.own)
        about: dict[str, Any] = {"prompts": len(prompts), "images": len(self.own), "mean NFE": rounded(calls)}
        own = next(iter(self.of))
        for reward in self.rewards:
            about[reward] = shown(*self.measured(own, reward)[1:])
            for long in self.fixed[-1:]:
                less = self.differences(reward, long)
                about[f"{reward}, {long}"] = shown(*self.measured(long, reward)[1:])
                about[f"{reward}, less that of {long}"] = shown(*mean_and_error(less))
            if unjudged := sum(record.scores[reward] is None for record in self.own):
                about[f"{reward}, images without"] = unjudged
        return about

    def differences(self, reward: str, other: str) -> list[float | None]:
        """Of each image, the predictor's reward less that of another schedule."""
        pairs = zip(self.own, self.of[other], strict=True)
        both = [(mine.scores[reward], theirs.scores[reward]) for mine, theirs in pairs]
        return [None if a is None or b is None else a - b for a, b in both]

    def plots(self) -> dict[str, Image.Image]:
        """By the names of their files: the predictor's times, and each reward against the calls."""
        longest = max(len(record.times) for record in self.own)
        t = torch.tensor([record.times + [0.0] * (longest - len(record.times)) for record in self.own])
        drawn = {"schedules": schedules(t, t[:, :-1] > 0)}
        return drawn | {f"quality_{reward}": self.quality(reward) for reward in self.rewards}

    def quality(self, reward: str) -> Image.Image:
        """Fixed numbers of steps as a line, the others as points."""
        line = [*self.fixed, self.matched]
        points = {name: [self.measured(name, reward)] for name in self.of if name not in line}
        return against_calls({"fixed steps": [self.measured(name, reward) for name in line]} | points, reward)

    def page(self, title: str, drawn: Mapping[str, Image.Image], records: Records) -> str:
        """Asks for no other file: tables, plots, and the first images as every schedule has them."""
        pictures = {name: embedded(image) for name, image in drawn.items()}
        above = table(self.rows()), gallery(pictures, kind="plot")
        return document(title, *above, *self.strips(records), table(self.cells()))

    def strips(self, records: Records) -> list[str]:
        return [
            gallery(
                {self.caption(of[k]): thumbnail(records.picture(of[k])) for of in self.of.values()},
                f"{own.prompt} (seed {own.seed})",
                "tile",
            )
            for k, own in enumerate(self.own[:SHOWN])
        ]

    def caption(self, record: Record) -> str:
        scores = (f"{name} {score:.4g}" for name, score in record.scores.items() if score is not None)
        return ", ".join([record.schedule, f"{record.nfe} NFE", *scores])

    def as_text(self) -> str:
        """The table, for a terminal."""
        rows = [{key: told(value) for key, value in row.items()} for row in self.rows()]
        widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
        lines = [{key: key for key in widths}, *rows]
        return "\n".join("  ".join(line[key].rjust(widths[key]) for key in widths) for line in lines)


def mean_and_error(values: Sequence[float | None]) -> tuple[float, float]:
    """Of what was judged, the mean and its standard error; NaN where there is too little for it."""
    judged = [value for value in values if value is not None]
    mean = fmean(judged) if judged else math.nan
    return mean, stdev(judged) / math.sqrt(len(judged)) if len(judged) > 1 else math.nan


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def shown(mean: float, error: float) -> str:
    if math.isnan(mean):
        return "none"
    return f"{mean:.4g}" + (f" +- {error:.2g}" if math.isfinite(error) else "")


def told(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
