"""Latents that `python -m tpdm.prepare` wrote, read a record at a time and decoded a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tpdm.data.damage import Damage, DamagedError
from tpdm.data.descriptors import descriptor, stamp_of
from tpdm.data.shards import Manifest, checksums, dequantise
from tpdm.data.source import Batch
from tpdm.data.stored import Stored, parse_classes
from tpdm.registry import Fraction, NonNegative, register
from tpdm.types import Condition, CondSpec, Text


@register("data", "latents")
class Latents(Stored):
    """`path` is the folder of the shards and their manifest. Raises ValueError where a shard is missing."""

    def __init__(
        self,
        path: str,
        test_fraction: Fraction[float],
        workers: NonNegative[int],
        reshard: bool,
        max_skipped: Fraction[float],
        *,
        split: str,
        skipped: Path | None = None,
    ):
        self.manifest = Manifest.read(Path(path))
        self.shards = [Path(path) / shard.name for shard in self.manifest.shards]
        if missing := [shard for shard in self.shards if not shard.is_file()]:
            raise ValueError(f"{len(missing)} of {len(self.shards)} shards are missing, such as {missing[0]}")
        self.record = self.manifest.record
        self.folder = path
        self.names = list(map(str, self.shards))
        self.offsets = np.array([shard.offset for shard in self.manifest.shards])
        self.ends = np.cumsum([shard.count for shard in self.manifest.shards])
        self.clips = np.array([shard.clip for shard in self.manifest.shards], np.float32)
        super().__init__(
            self.manifest.count,
            self.manifest.shape,
            self.manifest.cond,
            split,
            test_fraction,
            workers,
            reshard,
            max_skipped,
            skipped,
        )

    @property
    def encoded_by(self) -> Mapping[str, Any] | None:
        about = self.manifest.about
        return {**about["codec"], "sha256": about["codec_sha256"], "text_sha256": about["text_sha256"]}

    def load(self, rows: np.ndarray, coins: np.ndarray) -> Batch:
        shard = np.searchsorted(self.ends, rows, side="right")
        row = rows - np.where(shard > 0, self.ends[shard - 1], 0)  # within its shard
        raw = self.read(shard, row)
        records = raw.view(self.record)[:, 0]
        changed = checksums(raw, shard, row) != records["crc"]
        stored = torch.from_numpy(records["latent"])
        if stored.dtype == torch.uint8:
            latent, infinite = (
                dequantise(stored, torch.from_numpy(self.clips[shard])),
                np.zeros(len(rows), bool),
            )
        else:
            latent = stored.float()
            infinite = ~torch.isfinite(latent).flatten(1).all(1).numpy()
        if changed.any() or infinite.any():
            reason = np.where(changed, "the bytes are not those written", "the latent is not finite")
            raise DamagedError(
                [
                    Damage(str(self.shards[shard[k]]), f"record {row[k]}", str(reason[k]), int(rows[k]))
                    for k in np.flatnonzero(changed | infinite).tolist()
                ]
            )
        return latent, self.condition(records)

    def condition(self, records: np.ndarray) -> Condition:
        if isinstance(self.cond, CondSpec):
            return torch.from_numpy(records["label"].astype(np.int64))
        pooled, tokens = (torch.from_numpy(records[name].astype(np.float32)) for name in ("pooled", "tokens"))
        return Text(pooled, tokens, torch.from_numpy(records["mask"].copy()))

    def read(self, shard: np.ndarray, row: np.ndarray) -> np.ndarray:
        """(n, bytes of a record); where a shard is cut short, zeros."""
        size = self.record.itemsize
        raw = np.empty((len(row), size), np.uint8)
        numbers, starts = shard.tolist(), (row * size + self.offsets[shard]).tolist()
        stamp = stamp_of(self.folder)  # where shards came or went, all are opened again
        files = {number: descriptor(self.names[number], stamp) for number in set(numbers)}
        for record, number, start in zip(raw, numbers, starts, strict=True):
            found = os.preadv(files[number].number, (record.data,), start)
            if found < size:
                record[found:] = 0
        return raw

    def parse_labels(self, labels: list[str | int]) -> Int[Tensor, "n 1"]:
        """Raises ValueError where captions were encoded, and no label is left."""
        if not isinstance(self.cond, CondSpec):
            raise ValueError("labels are given, but data.path holds encoded captions; give prompt")
        return parse_classes(labels, self.manifest.about["classes"])
