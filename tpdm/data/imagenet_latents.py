"""Latents of ImageNet-256 as DiT trains on them: 4x32x32, 1000 classes, read from shards on disk."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from tpdm.registry import register
from tpdm.types import CondSpec, DataShape


@register("data", "imagenet_latents")
class ImageNetLatents:
    """Samples of path/train or path/test: *.safetensors with `latents` (n, 4, 32, 32) and `labels` (n,).

    Files are opened when the first batch is drawn, so that sizes can be known without them.
    """

    shape, cond = DataShape(4, 32, 32), CondSpec(slots=1, symbols=1000)

    def __init__(self, path: str | None, *, split: str):
        self.path, self.split = path, split

    def batch(
        self, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n 4 32 32"], Int[Tensor, "n 1"]]:
        index = torch.randint(self.starts[-1], (n,), generator=generator).tolist()
        rows = [self.row(i) for i in index]
        return torch.stack([x for x, _ in rows]).float(), torch.stack([label for _, label in rows]).long()

    def row(self, index: int) -> tuple[Tensor, Tensor]:
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        at = slice(index - self.starts[shard], index - self.starts[shard] + 1)
        latents, labels = (self.shards[shard].get_slice(name) for name in ("latents", "labels"))
        return latents[at][0], labels[at]

    @cached_property
    def shards(self) -> Sequence:
        """Every file, open but not read."""
        if self.path is None:
            raise ValueError("data.path is missing; give the folder that holds train/ and test/ with shards")
        folder = Path(self.path) / self.split
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ValueError(f"data.path={self.path}: there are no *.safetensors in {folder}")
        shards = [safe_open(file, "pt") for file in files]
        for file, shard in zip(files, shards, strict=True):
            check_shard(file, {name: tuple(shard.get_slice(name).get_shape()) for name in [*shard.keys()]})
        return shards

    @cached_property
    def starts(self) -> list[int]:
        """Index of each shard's first sample, and the number of all."""
        sizes = [shard.get_slice("labels").get_shape()[0] for shard in self.shards]
        return [0, *np.cumsum(sizes).tolist()]

    def parse_labels(self, labels: list[str | int]) -> Int[Tensor, "n 1"]:
        """Class numbers, one for each sample."""
        for label in labels:
            if not str(label).isdigit() or int(label) >= self.cond.symbols:
                raise ValueError(f"labels: {str(label)!r} does not exist; accepted are 0 to 999")
        return torch.tensor([int(label) for label in labels])[:, None]


def check_shard(file: Path, sizes: dict[str, tuple[int, ...]]) -> None:
    """Raises ValueError where a file does not hold as many labels as latents of 4x32x32."""
    latents, labels = sizes.get("latents", ()), sizes.get("labels", ())
    if latents[1:] != tuple(ImageNetLatents.shape) or labels != latents[:1]:
        raise ValueError(f"{file} is no shard of (n, 4, 32, 32) latents and (n,) labels: it holds {sizes}")
