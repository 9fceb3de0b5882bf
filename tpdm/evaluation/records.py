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
REMEDY = "delete it, and the image is drawn again"
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
        """None where it is still to be drawn. ValueError for a record that is none of this image."""
        picture = self.folder / place(schedule, image)
        kept = picture.with_suffix(".json")
        return read(kept, schedule, image) if kept.exists() and picture.exists() else None

    def keep(self, record: Record, picture: Image.Image) -> None:
        path = self.folder / record.file
        path.parent.mkdir(exist_ok=True)
        png(picture, path)
        write_json(path.with_suffix(".json"), asdict(record))

    def picture(self, record: Record) -> Image.Image:
        """Raises ValueError where its file is no whole picture any more."""
        path = self.folder / record.file
        try:
            with Image.open(path) as picture:
                return picture.convert("RGB")
        except (OSError, SyntaxError) as damage:  # Pillow's, of what it can not decode
            raise ValueError(f"{path} is no whole picture ({damage}); {REMEDY}") from None


def read(path: Path, schedule: str, image: int) -> Record:
    """Raises ValueError for a file that was cut short, edited, or is another image's."""
    kept = read_record(path)
    try:
        record = Record(**kept)
        fits = (record.schedule, record.image, record.nfe + 1) == (schedule, image, len(record.times))
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(f"{path} is no record of image {image} by {schedule}; {REMEDY}")
    return record
