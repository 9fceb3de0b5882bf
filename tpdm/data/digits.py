"""The real 8x8 handwritten digits that scikit-learn ships (Alpaydin & Kaynak 1998), one per canvas."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.data.source import Endless
from tpdm.registry import register
from tpdm.types import CondSpec, DataShape

CELL = 8  # side of one digit, pixels
NUM_DIGITS = 10
EMPTY = NUM_DIGITS  # the symbol of a cell that holds no digit
TRAIN_SIZE = 1257  # of 1797; the other 540 are held out
SPLITS = ("train", "test")


class Asked(NamedTuple):
    """What images of these conditions are to show, for a judge who knows light digits on dark."""

    symbols: Int[Tensor, "n slots"]  # of every cell, EMPTY where there is to be no digit
    sign: Float[Tensor, "n"]  # -1 where they are to be dark on light; 0 where either will do


@runtime_checkable
class DigitData(Protocol):
    """Data whose images are cells of digits."""

    def asked(self, cond: Any) -> Asked: ...


@register("data", "digits")
class Digits(Endless):
    """One digit per sample; the condition is the digit."""

    cells = (1, 1)

    def __init__(self, *, split: str):
        self.images, self.labels = real_digits(split)
        self.shape = DataShape(1, CELL, CELL)
        self.cond = CondSpec(slots=1, symbols=NUM_DIGITS)

    def batch(
        self, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n 1 8 8"], Int[Tensor, "n 1"]]:
        index = torch.randint(len(self.images), (n,), generator=generator)
        return self.images[index], self.labels[index, None]

    def parse_labels(self, labels: list[str | int]) -> Int[Tensor, "n 1"]:
        return parse_labels(labels, self.cond)

    def asked(self, cond: Int[Tensor, "n 1"]) -> Asked:
        return asked(cond)


def real_digits(split: str) -> tuple[Float[Tensor, "n 1 8 8"], Int[Tensor, "n"]]:
    """Images in [-1, 1] and labels of one side of the fixed split.

    The split cuts `RandomState(0).permutation(1797)`, a stream that numpy has frozen, after 1257 digits.
    """
    from sklearn.datasets import load_digits  # slow to import

    if split not in SPLITS:
        raise ValueError(f"split={split!r} does not exist; use one of {', '.join(SPLITS)}")
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(images))
    rows = order[:TRAIN_SIZE] if split == "train" else order[TRAIN_SIZE:]
    pixels = torch.from_numpy(images[rows]).float() / 8 - 1  # ink is 0..16
    return pixels.unflatten(1, (1, CELL, CELL)), torch.from_numpy(labels[rows]).long()


def parse_labels(labels: list[str | int], cond: CondSpec) -> Int[Tensor, "n slots"]:
    """Condition from what a person typed: one label per cell, row by row, as many samples as that fills."""
    symbol_of = {str(digit): digit for digit in range(NUM_DIGITS)}
    accepted = "0 to 9"
    if cond.symbols > EMPTY:
        symbol_of |= {"empty": EMPTY, "-": EMPTY}
        accepted += ", and empty or - for an empty cell"
    for label in labels:
        if str(label) not in symbol_of:
            raise ValueError(f"labels: {str(label)!r} does not exist; accepted are {accepted}")
    if not labels or len(labels) % cond.slots:
        raise ValueError(
            f"labels: {len(labels)} given; a sample has {cond.slots} cells, so give a multiple of that"
        )
    return torch.tensor([symbol_of[str(label)] for label in labels]).view(-1, cond.slots)


def asked(cond: Int[Tensor, "n slots"]) -> Asked:
    """Of labels, which name every cell's symbol."""
    return Asked(cond, torch.ones(len(cond)))


def light_on_dark(x: Float[Tensor, "B C H W"], sign: Float[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    """Images whose sign is -1 turned over; where it is 0, those whose border is light."""
    border = torch.cat([x[..., :1].flatten(1), x[..., -1:].flatten(1)], dim=1).mean(1)
    turned = torch.where(sign == 0, border > 0, sign < 0)
    return torch.where(turned[:, None, None, None], -x, x)


def count_digits(cond: Int[Tensor, "B slots"]) -> Int[Tensor, "B"]:
    """How many digits each sample is asked to show."""
    return (cond < NUM_DIGITS).sum(1)


def split_cells(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B slots C 8 8"]:
    """Cuts each canvas into its cells, row by row: the order of the condition's slots."""
    tiles = x.unfold(2, CELL, CELL).unfold(3, CELL, CELL)  # (B, C, rows, cols, 8, 8)
    return tiles.flatten(2, 3).transpose(1, 2)


def join_cells(tiles: Float[Tensor, "B slots C 8 8"], cells: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """Inverse of `split_cells`; `cells` is (rows, cols)."""
    grid = tiles.unflatten(1, cells)  # (B, rows, cols, C, 8, 8)
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
