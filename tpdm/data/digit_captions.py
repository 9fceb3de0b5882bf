"""The real 8x8 digits with captions that say what can be measured of them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import compress, product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.data.digits import CELL, NUM_DIGITS, Asked, real_digits
from tpdm.data.source import Endless
from tpdm.registry import Fraction, register
from tpdm.types import DataShape

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Measure = Callable[[Tensor], Tensor]  # images (n, 1, H, W), light on dark, to a number each
SIDES = ("light on dark", "dark on light")


@register("data", "digit_captions")
class DigitCaptions(Endless):
    """Captions such as "a bold seven, tilted right, dark on light".

    Bold is the upper third of a digit's images, and tilted left or right a third each, as a seven leans
    otherwise than a six. Half of the images are turned into dark on light. Each property is told of with the
    probability `told`, so that a prompt need not tell all.
    """

    cond = None

    def __init__(self, told: Fraction[float], *, split: str):
        self.told = told
        self.images, self.labels = real_digits(split)
        self.shape = DataShape(1, CELL, CELL)
        self.weights = self.thirds(weight, ("thin", "", "bold"))
        self.tilts = self.thirds(slant, ("tilted left", "", "tilted right"))

    def thirds(self, measure: Measure, words: tuple[str, str, str]) -> list[str]:
        """The word for the lowest, the middle and the highest third of the training images of its digit."""
        train, labels = real_digits("train")
        share = torch.tensor([1 / 3, 2 / 3])
        cuts = torch.stack([measure(train[labels == k]).quantile(share) for k in range(NUM_DIGITS)])
        place = (measure(self.images)[:, None] > cuts[self.labels]).sum(1)  # (n,)
        return [words[k] for k in place.tolist()]

    def batch(self, n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n 1 8 8"], list[str]]:
        index = torch.randint(len(self.images), (n,), generator=generator)
        side = torch.randint(2, (n,), generator=generator)
        told = torch.rand(n, 3, generator=generator) < self.told
        sign = 1.0 - 2.0 * side[:, None, None, None]
        rows = zip(index.tolist(), side.tolist(), told.tolist(), strict=True)
        return sign * self.images[index], [self.caption(*row) for row in rows]

    def caption(self, index: int, side: int, told: Sequence[bool]) -> str:
        """Of a digit, and whether its weight, its tilt and its side are told of."""
        words = (self.weights[index], self.tilts[index], SIDES[side])
        shown = (word if tell else "" for word, tell in zip(words, told, strict=True))
        return written(WORDS[self.labels[index]], *shown)

    def texts(self) -> Iterator[str]:
        """Every caption that tells all."""
        for index, side in product(range(len(self.images)), (0, 1)):
            yield self.caption(index, side, (True, True, True))

    def asked(self, cond: Sequence[str]) -> Asked:
        """Read off the captions."""
        return Asked(digits_of(cond)[:, None], sides_of(cond))


def written(digit: str, weight: str, *rest: str) -> str:
    """Such as "an eight" or "a thin two, tilted left, light on dark"."""
    said = f"{weight} {digit}" if weight else digit
    return ", ".join([f"{'an' if said == 'eight' else 'a'} {said}", *compress(rest, rest)])


def digits_of(captions: Sequence[str]) -> Int[Tensor, "n"]:
    """The digit that each caption names. Raises ValueError where it names none, or two."""
    found = [
        [k for k, word in enumerate(WORDS) if word in caption.lower().replace(",", " ").split()]
        for caption in captions
    ]
    for caption, digits in zip(captions, found, strict=True):
        if len(digits) != 1:
            raise ValueError(f"{caption!r} names {len(digits)} digits, not one of {', '.join(WORDS)}")
    return torch.tensor(found)[:, 0]


def sides_of(captions: Sequence[str]) -> Float[Tensor, "n"]:
    """1 for light on dark, -1 for dark on light, 0 where a caption does not tell."""
    return torch.tensor([float((SIDES[0] in c) - (SIDES[1] in c)) for c in captions])


def weight(x: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n"]:
    """Share of the image that is ink."""
    return ((x + 1) / 2).mean((1, 2, 3))


def slant(x: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n"]:
    """Columns to the right per row upwards: the regression of column on row, both weighted by the ink."""
    ink = (x + 1) / 2
    share = ink / ink.sum((2, 3), keepdim=True)
    row = torch.arange(x.shape[2], dtype=x.dtype).view(-1, 1)
    column = torch.arange(x.shape[3], dtype=x.dtype)
    row = row - (share * row).sum((2, 3), keepdim=True)  # (n, 1, H, 1)
    column = column - (share * column).sum((2, 3), keepdim=True)  # (n, 1, 1, W)
    return -(share * row * column).sum((1, 2, 3)) / (share * row * row).sum((1, 2, 3))
