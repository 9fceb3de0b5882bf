"""From images to shards of latents: the next images are read while these are encoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tpdm.data.damage import Damage, DamagedError
from tpdm.data.shards import fields_of, quantise, squared_error, write_shard
from tpdm.data.stored import Stored
from tpdm.runtime.atomic import leftovers
from tpdm.runtime.progress import Progress
from tpdm.types import Codec, Text

Item = TypeVar("Item")
Made = TypeVar("Made")


class Encoder:
    """Images and labels or captions to what is stored of them, on the device."""

    def __init__(self, codec: Codec, text: Any, device: torch.device):
        self.codec, self.device = codec, device
        self.text = text.to(device) if isinstance(text, nn.Module) else text

    @torch.no_grad()
    def __call__(self, x0: Tensor, cond: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """(latents, one array for each field of the condition), on the CPU."""
        z = self.codec.encode(x0.to(self.device)).float().cpu()
        if self.text is None:
            return z, {"label": cond.int()}
        text: Text = self.text(cond).cpu()
        return z, {"pooled": text.pooled.half(), "tokens": text.tokens.half(), "mask": text.mask}


class Writer:
    """Encodes rows and writes them; the next images are read while these are encoded."""

    def __init__(
        self, data: Stored, encode: Encoder, precision: str, batch_size: int, about: Mapping[str, Any]
    ):
        self.data, self.encode, self.about = data, encode, about
        self.precision, self.batch_size = precision, batch_size
        self.threads = ThreadPoolExecutor(max(1, data.workers))

    def write(self, path: Path, number: int, rows: np.ndarray, progress: Progress) -> None:
        """One shard, of what of these rows can be read and encoded."""
        latents, conds = [], []
        parts = np.array_split(rows, range(self.batch_size, len(rows), self.batch_size))
        for kept, x0, cond in ahead(self.threads, self.read, parts):
            if len(kept):
                z, encoded = self.encode(x0, cond)
                finite = torch.isfinite(z).flatten(1).all(1)
                for x in encoded.values():
                    finite &= torch.isfinite(x).flatten(1).all(1)
                if not finite.all():
                    self.refuse(path, kept[~finite.numpy()])
                latents.append(z[finite])
                conds.append({name: x[finite] for name, x in encoded.items()})
            progress.advance()
        if not sum(map(len, latents)):
            raise ValueError(f"none of the {len(rows)} samples for {path} can be read")
        z = torch.cat(latents)
        stored, clip = quantise(z) if self.precision == "uint8" else (z.half(), 0.0)
        error = squared_error(stored, clip, z) if clip else float((stored.float() - z).square().mean())
        shard = {"count": len(z), "clip": clip, "mse": error, "power": float(z.max() - z.min()) ** 2}
        arrays = {"latent": stored.numpy()}
        arrays |= {name: torch.cat([cond[name] for cond in conds]).numpy() for name in conds[0]}
        assert fields_of(arrays) == self.about["fields"]
        for leftover in leftovers(path):
            leftover.unlink(missing_ok=True)
        write_shard(path, number, arrays, {"about": self.about, "shard": shard})

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, Tensor, Any]:
        """(rows that can be read, their images, their labels or captions)."""
        while len(rows):
            try:
                return rows, *self.data.load(rows, np.zeros(len(rows), bool))
            except DamagedError as error:
                self.data.skipped.add(error.damages)
                rows = rows[[row not in {damage.row for damage in error.damages} for row in rows.tolist()]]
        return rows, torch.empty(0, *self.data.shape), []

    def refuse(self, path: Path, rows: np.ndarray) -> None:
        reason = "the latent, or the encoded caption, is not finite"
        self.data.skipped.add([Damage(str(path), f"row {row}", reason, row) for row in rows.tolist()])


def ahead(
    threads: ThreadPoolExecutor, function: Callable[[Item], Made], items: Iterable[Item], depth: int = 4
) -> Iterator[Made]:
    """The function's answers in order, at most `depth` of them before they are asked for."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(threads.submit(function, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
