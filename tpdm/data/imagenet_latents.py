"""Latents of ImageNet-256 as DiT trains on them: 4x32x32, 1000 classes."""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from tpdm.data.latents import Latents
from tpdm.data.source import Batch, Endless
from tpdm.data.stored import parse_classes
from tpdm.registry import Fraction, NonNegative, register
from tpdm.types import CondSpec, DataShape

SHAPE, COND = DataShape(4, 32, 32), CondSpec(slots=1, symbols=1000)


class Declared(Endless):
    """The sizes alone, for what needs no files."""

    shape, cond = SHAPE, COND

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        raise ValueError(
            "data.path is missing: data=imagenet_latents knows its sizes without files, but reads the shards "
            "that python -m tpdm.prepare writes; give their folder"
        )

    def parse_labels(self, labels: list[str | int]) -> Int[Tensor, "n 1"]:
        """Class numbers, one for each sample."""
        return parse_classes(labels, [str(k) for k in range(COND.symbols)])


@register("data", "imagenet_latents")
def imagenet_latents(
    path: str | None,
    test_fraction: Fraction[float],
    workers: NonNegative[int],
    reshard: bool,
    max_skipped: Fraction[float],
    *,
    split: str,
    skipped: Path | None = None,
) -> Latents | Declared:
    """The shards in the folder `path`, or their sizes. Raises ValueError where the shards hold others."""
    if path is None:
        return Declared()
    latents = Latents(path, test_fraction, workers, reshard, max_skipped, split=split, skipped=skipped)
    if (latents.shape, latents.cond) != (SHAPE, COND):
        seen, (channels, height, width) = latents.cond, latents.shape
        raise ValueError(
            f"data.path={path} holds latents of {channels}x{height}x{width} with {seen}, where "
            f"data=imagenet_latents has 4x32x32 with {COND}; use data=latents"
        )
    return latents
