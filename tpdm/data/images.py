"""Stored samples that are images, read one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL.Image import Image
from torch import Tensor

from tpdm.data.damage import Damage, DamagedError, UnreadableError
from tpdm.data.image import Square, to_pixels
from tpdm.data.source import Batch
from tpdm.data.stored import Stored, parse_classes
from tpdm.types import CondSpec, DataShape


class Images(Stored):
    """Each sample is an image with the number of its class, or with a caption where `classes` is None."""

    def __init__(self, size: int, square: Square, classes: Sequence[str] | None, **stored: Any):
        self.square, self.classes = square, classes
        shape = DataShape(square.channels, square.size, square.size)
        cond = None if classes is None else CondSpec(slots=1, symbols=len(classes))
        super().__init__(size, shape, cond, **stored)

    @abstractmethod
    def sample(self, row: int) -> tuple[Image, int | str]:
        """Image and class or caption. Raises UnreadableError."""

    @abstractmethod
    def name(self, row: int) -> tuple[str, str]:
        """Shard and key."""

    def load(self, rows: np.ndarray, coins: np.ndarray) -> Batch:
        size, channels = self.square.size, self.square.channels
        images = np.empty((len(rows), size, size, channels), np.uint8)
        cond: list[Any] = []
        damages = []
        for k, (row, coin) in enumerate(zip(rows.tolist(), coins.tolist(), strict=True)):
            try:
                image, value = self.sample(row)
                images[k] = self.square(image, coin)
                cond.append(self.check(value))
            except UnreadableError as error:
                damages.append(Damage(*self.name(row), str(error), row))
        if damages:
            raise DamagedError(damages)
        return to_pixels(images), cond if self.classes is None else torch.tensor(cond).view(-1, 1)

    def texts(self) -> Iterator[str]:
        """Every caption that can be read; nothing is said of the others before their turn."""
        for row in self.rows.tolist() if self.classes is None else ():
            with suppress(UnreadableError):
                yield self.caption(row)

    def caption(self, row: int) -> str:
        """Without the image. Raises UnreadableError."""
        raise NotImplementedError("these data have labels")

    def check(self, value: int | str) -> int | str:
        if self.classes is not None and value not in range(len(self.classes)):
            raise UnreadableError(f"label {value} is out of range; there are {len(self.classes)} classes")
        return value

    def parse_labels(self, labels: list[str | int]) -> Int[Tensor, "n 1"] | list[str]:
        """Conditions as a person types them: names or numbers of classes, or captions."""
        return list(map(str, labels)) if self.classes is None else parse_classes(labels, self.classes)
