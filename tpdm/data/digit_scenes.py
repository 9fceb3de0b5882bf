"""Small scenes whose difficulty varies: a grid of cells, each empty or holding one real digit."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.data.digits import CELL, EMPTY, Asked, asked, join_cells, parse_labels, real_digits
from tpdm.data.source import Endless
from tpdm.registry import NonNegative, Positive, register
from tpdm.types import CondSpec, DataShape


@register("data", "digit_scenes")
class DigitScenes(Endless):
    """`min_digits` to `max_digits` digits (null: one for every cell), every count equally often.

    The condition names each cell's symbol. Raises ValueError where the cells do not hold so many.
    """

    def __init__(
        self,
        rows: Positive[int],
        cols: Positive[int],
        min_digits: NonNegative[int],
        max_digits: NonNegative[int] | None,
        *,
        split: str,
    ):
        most = rows * cols if max_digits is None else max_digits
        if not min_digits <= most <= rows * cols:
            raise ValueError(
                f"data.min_digits={min_digits}, data.max_digits={max_digits} do not rise from 0 to the "
                f"{rows * cols} cells of data.rows={rows}, data.cols={cols}"
            )
        self.counts = range(min_digits, most + 1)
        self.images, self.labels = real_digits(split)
        self.cells = (rows, cols)
        self.shape = DataShape(1, rows * CELL, cols * CELL)
        self.cond = CondSpec(slots=rows * cols, symbols=EMPTY + 1)

    def batch(
        self, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, "n slots"]]:
        slots = self.cond.slots
        count = torch.randint(self.counts.start, self.counts.stop, (n, 1), generator=generator)
        rank = torch.rand(n, slots, generator=generator).argsort(1).argsort(1)  # a random order of the cells
        filled = rank < count  # (n, slots)
        index = torch.randint(len(self.images), (n, slots), generator=generator)
        tiles = torch.where(filled[..., None, None, None], self.images[index], -1.0)
        return join_cells(tiles, self.cells), torch.where(filled, self.labels[index], EMPTY)

    def parse_labels(self, labels: list[str | int]) -> Int[Tensor, "n slots"]:
        return parse_labels(labels, self.cond)

    def asked(self, cond: Int[Tensor, "n slots"]) -> Asked:
        return asked(cond)
