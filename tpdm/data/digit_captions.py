"""The real 8x8 digits with captions that say what can be measured of them."""

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.data.digits import CELL, real_digits
from tpdm.data.source import Endless
from tpdm.registry import register
from tpdm.types import DataShape

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SLANT = 0.12  # columns that a stroke leans per row; about a third of the digits lean further


@register("data", "digit_captions")
class DigitCaptions(Endless):
    """Captions such as "a bold, narrow seven, slanted to the right"; bold is the upper third of all."""

    cond = None

    def __init__(self, *, split: str):
        self.images, labels = real_digits(split)
        self.shape = DataShape(1, CELL, CELL)
        train = (real_digits("train")[0] + 1) / 2
        ink = (self.images + 1) / 2
        weight = thirds(ink.sum((1, 2, 3)), train.sum((1, 2, 3)), ("thin", "", "bold"))
        width = thirds(spread(ink), spread(train), ("narrow", "", "wide"))
        self.captions = [
            caption(WORDS[label], [weight[k], width[k]], lean)
            for k, (label, lean) in enumerate(zip(labels.tolist(), slant(ink).tolist(), strict=True))
        ]

    def batch(self, n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n 1 8 8"], list[str]]:
        index = torch.randint(len(self.images), (n,), generator=generator)
        return self.images[index], [self.captions[k] for k in index.tolist()]

    def parse_labels(self, labels: list[str | int]) -> list[str]:
        return list(map(str, labels))


def caption(word: str, adjectives: list[str], lean: float) -> str:
    found = ", ".join(filter(None, adjectives))
    side = "right" if lean > 0 else "left"
    tail = f", slanted to the {side}" if abs(lean) > SLANT else ", upright"
    said = f"{found} {word}" if found else word
    return f"{'an' if said == 'eight' else 'a'} {said}{tail}"


def thirds(values: Float[Tensor, "n"], among: Float[Tensor, "m"], words: tuple[str, str, str]) -> list[str]:
    """The word for the lowest, the middle and the highest third."""
    cuts = torch.quantile(among, torch.tensor([1 / 3, 2 / 3]))
    return [words[k] for k in torch.bucketize(values, cuts).tolist()]


def moments(ink: Float[Tensor, "n 1 H W"]) -> tuple[Tensor, Tensor, Tensor]:
    """Ink-weighted central moments: xx, yy, xy of each image; y counts rows downwards."""
    share = ink / ink.sum((2, 3), keepdim=True)
    y = torch.arange(ink.shape[2], dtype=ink.dtype).view(-1, 1)
    x = torch.arange(ink.shape[3], dtype=ink.dtype)
    x = x - (share * x).sum((2, 3), keepdim=True)  # (n, 1, 1, W)
    y = y - (share * y).sum((2, 3), keepdim=True)  # (n, 1, H, 1)
    xx, yy, xy = ((share * a * b).sum((1, 2, 3)) for a, b in ((x, x), (y, y), (x, y)))
    return xx, yy, xy


def spread(ink: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n"]:
    """Standard deviation of the ink across the columns."""
    return moments(ink)[0].sqrt()


def slant(ink: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n"]:
    """Columns to the right per row upwards: the regression of x on y."""
    _, yy, xy = moments(ink)
    return -xy / yy
