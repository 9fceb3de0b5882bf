"""Images in a folder or a zip, with the labels or captions that lie beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL.Image import Image

from tpdm.data.damage import UnreadableError
from tpdm.data.files import Files, open_files, text
from tpdm.data.image import Square, decode, is_image
from tpdm.data.images import Images
from tpdm.registry import Fraction, NonNegative, Positive, register

LABELS_FILE = "dataset.json"
MOST_CLASSES = 10**6  # that a label may ask for by its number alone
Labels = Literal["auto", "json", "folders", "captions", "none"]


@register("data", "folder")
class FolderImages(Images):
    """`labels` says where conditions come from: dataset.json, a .txt beside the image, its first folder.

    `auto` takes the first of these that there is. `num_classes` null: as many as dataset.json names.
    """

    def __init__(
        self,
        path: str,
        labels: Labels,
        num_classes: Positive[int] | None,
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
        self.images = [name for name in self.files.names if is_image(name)]
        if not self.images:
            raise ValueError(f"data.path={path} holds no image, only {len(self.files.names)} other files")
        kind = found_labels(self.files, self.images) if labels == "auto" else labels
        self.captions = set(self.files.names) if kind == "captions" else None
        self.labels, classes = self.read_labels(kind, num_classes)
        super().__init__(
            len(self.images),
            Square(size, channels, flip),
            classes,
            split=split,
            test_fraction=test_fraction,
            workers=workers,
            reshard=reshard,
            max_skipped=max_skipped,
            skipped=skipped,
        )

    def read_labels(self, kind: str, num_classes: int | None) -> tuple[Mapping[str, Any], list[str] | None]:
        """The label of each image that has one, and the names of the classes; None for captions."""
        if kind == "captions":
            return {}, None
        if kind == "folders":
            tops = {name: PurePosixPath(name).parts[0] if "/" in name else None for name in self.images}
            classes = sorted({top for top in tops.values() if top is not None})
            number = {top: k for k, top in enumerate(classes)}
            return {name: number[top] for name, top in tops.items() if top is not None}, classes
        if kind == "none":
            return dict.fromkeys(self.images, 0), ["image"]
        labels = json_labels(self.files)
        whole = [label for label in labels.values() if isinstance(label, int)]
        count = num_classes or max(whole, default=0) + 1
        if num_classes is None and count > MOST_CLASSES:
            raise ValueError(
                f"{self.files.path}/{LABELS_FILE} has the label {count - 1}; accepted without "
                f"data.num_classes: 0 to {MOST_CLASSES - 1}"
            )
        return labels, [str(k) for k in range(count)]

    def sample(self, row: int) -> tuple[Image, int | str]:
        name = self.images[row]
        image = decode(self.files.read(name))
        if self.captions is None:
            if name not in self.labels:
                raise UnreadableError("the image has no label")
            return image, self.labels[name]
        return image, self.caption(row)

    def caption(self, row: int) -> str:
        assert self.captions is not None
        beside = str(PurePosixPath(self.images[row]).with_suffix(".txt"))
        if beside not in self.captions:
            raise UnreadableError("the caption is missing")
        return text(self.files.read(beside), "caption")

    def name(self, row: int) -> tuple[str, str]:
        return str(self.files.path), self.images[row]


def found_labels(files: Files, images: list[str]) -> str:
    """Where the labels are, if nobody says."""
    if LABELS_FILE in files.names:
        return "json"
    stems = {name[:-4] for name in files.names if name.endswith(".txt")}
    if any(name.rpartition(".")[0] in stems for name in images):
        return "captions"
    return "folders" if all("/" in name for name in images) else "none"


def json_labels(files: Files) -> dict[str, Any]:
    """{"labels": [["img_001.png", 0], ...]}."""
    where = f"{files.path}/{LABELS_FILE}"
    if LABELS_FILE not in files.names:
        raise ValueError(f"data.labels=json, but {where} is missing")
    try:
        return {str(name): label for name, label in json.loads(files.read(LABELS_FILE))["labels"]}
    except (UnreadableError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f'{where} is not {{"labels": [["name.png", 0], ...]}}: {type(error).__name__}: {error}'
        ) from None
