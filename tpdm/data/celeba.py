"""CelebA's aligned faces, labelled by the names of their attributes (Liu et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL.Image import Image

from tpdm.data.files import open_files
from tpdm.data.image import Square, decode, is_image
from tpdm.data.images import Images
from tpdm.registry import Fraction, NonNegative, Positive, register
from tpdm.values import nearest


@register("data", "celeba")
class CelebA(Images):
    """`path` holds the images (folder or zip), `attributes` is list_attr_celeba.txt, or the .csv of it.

    The class of a face is the first of `labels` that holds: an attribute, "not_" and an attribute, or female.
    A face to which none of them applies is left out.
    """

    def __init__(
        self,
        path: str,
        attributes: str,
        labels: list[str],
        size: Positive[int],
        channels: Literal[1, 3],
        flip: bool,
        test_fraction: Fraction[float],
        workers: NonNegative[int],
        reshard: bool,
        max_skipped: Fraction[float],
        *,
        split: str,
        skipped: Path | None = None,
    ):
        self.files = open_files(path)
        place = {PurePosixPath(name).name: name for name in self.files.names if is_image(name)}
        class_of = classes_of(Path(attributes), labels)
        self.faces = [(place[name], label) for name, label in class_of.items() if name in place]
        if not self.faces:
            raise ValueError(
                f"none of the {len(place)} images in data.path={path} is one of the {len(class_of)} faces "
                f"that data.attributes={attributes} has with data.labels={labels}"
            )
        super().__init__(
            len(self.faces),
            Square(size, channels, flip),
            labels,
            split=split,
            test_fraction=test_fraction,
            workers=workers,
            reshard=reshard,
            max_skipped=max_skipped,
            skipped=skipped,
        )

    def sample(self, row: int) -> tuple[Image, int]:
        name, label = self.faces[row]
        return decode(self.files.read(name)), label

    def name(self, row: int) -> tuple[str, str]:
        return str(self.files.path), self.faces[row][0]


def classes_of(path: Path, labels: Sequence[str]) -> dict[str, int]:
    """Class by file name; faces without one are left out."""
    names, files, table = read_attributes(path)
    columns = {name.lower(): k for k, name in enumerate(names)}
    holds = np.stack([has(table, columns, label) for label in labels], axis=1)  # (faces, labels)
    return {file: int(row.argmax()) for file, row in zip(files, holds, strict=True) if row.any()}


def has(table: np.ndarray, columns: dict[str, int], label: str) -> np.ndarray:
    """Which faces a label applies to."""
    word = "not_male" if label.lower() == "female" else label.lower()
    attribute = word.removeprefix("not_")
    if attribute not in columns:
        known = ", ".join(["female", *columns])
        raise ValueError(
            f"data.labels: {label!r} is no attribute{nearest(label, columns)}; accepted: {known}"
        )
    column = table[:, columns[attribute]]
    return column < 0 if word != attribute else column > 0


def read_attributes(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """(attributes, file names, (faces, attributes) of -1 and 1). Raises ValueError with the damaged line."""
    if not path.is_file():
        raise ValueError(f"data.attributes={path} does not exist")
    lines = path.read_text(encoding="utf-8", errors="replace").replace(",", " ").splitlines()
    skip = 1 if lines and len(lines[0].split()) == 1 else 0  # the .txt starts with a count
    names = [name for name in lines[skip].split() if name != "image_id"] if len(lines) > skip else []
    files, rows = [], []
    for number, line in enumerate(lines[skip + 1 :], skip + 2):
        file, *values = line.split() or [""]
        if len(values) != len(names) or not set(values) <= {"-1", "1"}:
            raise ValueError(f"{path}, line {number}, is not a file name and {len(names)} times -1 or 1")
        files.append(file)
        rows.append(np.array(values, np.int8))
    if not rows or not names:
        raise ValueError(f"{path} lists no faces")
    return names, files, np.stack(rows)
