"""A folder of drawn images, each with its record beside it: what is there need not be drawn again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tpdm.runtime.atomic import TEMPORARY, read_record, write_json
from tpdm.runtime.plots import png
from tpdm.runtime.run import difference

SETTINGS = "settings.json"  # what the images depend on, and the rewards that judge them
Scores = Mapping[str, float | None]  # None where a reward answered with no number


@dataclass(frozen=True)
class Record:
    """One image: what was asked, by which schedule it was drawn, what that took and what it is worth."""

    image: int  # those of the same number have the same prompt and seed
    prompt: str
    seed: int
    schedule: str
    nfe: int
    times: list[float]  # visited, from the noise to 0
    scores: Scores

    @property
    def file(self) -> str:
        """Its picture, in the folder of all."""
        return place(self.schedule, self.image)


def finite(score: float) -> float | None:
    return score if math.isfinite(score) else None


def place(schedule: str, image: int) -> str:
    return f"{schedule.replace(' ', '_')}/{image:05d}.png"


class Records:
    """A record is written after its picture, both whole: an image is there with both, or drawn again."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any]) -> Records:
        """New, or what the same settings left. ValueError where others did, or it cannot be written."""
        path = folder / SETTINGS
        if path.exists():
            if differs := difference(read_record(path), settings):
                key, was, now = differs
                raise ValueError(
                    f"out={folder} was drawn with {key}={was}, and now {key}={now}; use another out"
                )
            return cls(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if others := sorted(file.name for file in folder.iterdir() if not file.name.endswith(TEMPORARY)):
                raise ValueError(f"out={folder} holds something else, such as {others[0]}; use another out")
            write_json(path, settings)
        except OSError as error:
            raise ValueError(f"out={folder} cannot be written ({error.strerror})") from None
        return cls(folder)

    def find(self, schedule: str, image: int) -> Record | None:
        picture = self.folder / place(schedule, image)
        kept = picture.with_suffix(".json")
        return Record(**read_record(kept)) if kept.exists() and picture.exists() else None

    def keep(self, record: Record, picture: Image.Image) -> None:
        path = self.folder / record.file
        path.parent.mkdir(exist_ok=True)
        png(picture, path)
        write_json(path.with_suffix(".json"), asdict(record))

    def picture(self, record: Record) -> Image.Image:
        with Image.open(self.folder / record.file) as picture:
            return picture.convert("RGB")
