"""MNIST, and what else comes as its four IDX files (LeCun et al. 1998)."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tpdm.data.image import Square
from tpdm.data.images import Images
from tpdm.registry import Fraction, NonNegative, Positive, register

PREFIX = {"train": "train", "test": "t10k"}
UNSIGNED_BYTE = 8


@register("data", "mnist")
class MNIST(Images):
    """`path` is the folder of the files, gzipped or not; they bring their own split."""

    def __init__(
        self,
        path: str,
        num_classes: Positive[int],
        size: Positive[int],
        channels: Literal[1, 3],
        flip: bool,
        workers: NonNegative[int],
        reshard: bool,
        max_skipped: Fraction[float],
        *,
        split: str,
        skipped: Path | None = None,
    ):
        self.path = find_idx(Path(path), f"{PREFIX[split]}-images", 3)
        self.images = read_idx(self.path, 3)
        self.labels = read_idx(find_idx(Path(path), f"{PREFIX[split]}-labels", 1), 1)
        if not len(self.images) == len(self.labels) > 0:
            raise ValueError(f"{self.path} has {len(self.images)} images for {len(self.labels)} labels")
        super().__init__(
            len(self.images),
            Square(size, channels, flip),
            [str(k) for k in range(num_classes)],
            split=split,
            test_fraction=0.0,
            workers=workers,
            reshard=reshard,
            max_skipped=max_skipped,
            skipped=skipped,
        )

    def sample(self, row: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[row]), int(self.labels[row])

    def name(self, row: int) -> tuple[str, str]:
        return str(self.path), str(row)


def find_idx(folder: Path, stem: str, dimensions: int) -> Path:
    """The file under any of its usual names."""
    names = [f"{stem}{dot}idx{dimensions}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"data.path={folder} has no {names[0]}; accepted names: {', '.join(names)}")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Raises ValueError where the file is damaged or something else."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if content[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]):
        raise ValueError(f"{path} is no IDX file of bytes in {dimensions} dimensions")
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4").tolist()
    if len(content) != start + math.prod(shape):
        raise ValueError(f"{path} has {len(content)} bytes; its header says {start + math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
