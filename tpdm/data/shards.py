"""Latents on a disk: thousands of records in one member of a tar, a manifest beside the tars.

A record holds everything of one sample, and a checksum that also knows where the record stands, so that a
batch is one read per sample, and neither a flipped nor a displaced byte passes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tpdm.runtime.atomic import read_json, whole_file, write_json
from tpdm.types import CondSpec, DataShape, TextSpec

VERSION = 1
MANIFEST = "manifest.json"
QUANTILES = (0.9999, 0.999, 0.99)  # of |z|; the clip value is one of them, or the largest |z|
JUDGED = 1 << 20  # numbers of a shard by which it is chosen, about
CACHED = 32  # samples
Precision = Literal["uint8", "float16"]


@dataclass(frozen=True)
class ShardInfo:
    """What a reader has to know of one shard."""

    name: str
    count: int
    offset: int  # of the first record, bytes
    clip: float  # uint8 0..255 stands for -clip..clip
    mse: float  # of the stored against the encoded latents
    power: float  # (max - min)^2 of the encoded latents


@dataclass(frozen=True)
class Manifest:
    """What the shards hold, and how it was made. `about` is what has to be the same to go on writing."""

    about: Mapping[str, Any]  # version, codec, precision, shape, cond, fields, source
    shards: Sequence[ShardInfo]

    @property
    def count(self) -> int:
        return sum(shard.count for shard in self.shards)

    @property
    def shape(self) -> DataShape:
        return DataShape(*self.about["shape"])

    @property
    def cond(self) -> CondSpec | TextSpec:
        cond = self.about["cond"]
        return CondSpec(**cond) if "slots" in cond else TextSpec(**cond)

    @property
    def record(self) -> np.dtype:
        return record_type(self.about["fields"])

    @property
    def psnr(self) -> float:
        """Decibels of the stored latents, the range of each shard's own as the peak."""
        ratio = np.array([shard.mse / shard.power if shard.power else 0.0 for shard in self.shards])
        mean = float(np.average(ratio, weights=[shard.count for shard in self.shards]))
        return -10 * float(np.log10(mean)) if mean else float("inf")

    def write(self, folder: Path) -> None:
        content = {"count": self.count, **self.about, "shards": [asdict(shard) for shard in self.shards]}
        write_json(folder / MANIFEST, {**content, "sha256": digest(content)})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises ValueError where there is none, or where it is not what was written."""
        path = folder / MANIFEST
        if not path.is_file():
            raise ValueError(f"data.path={folder} has no {MANIFEST}; python -m tpdm.prepare ends with one")
        content = read_json(path)
        if not isinstance(content, dict) or content.pop("sha256", None) != digest(content):
            raise ValueError(f"{path} was changed after it was written (sha256 differs)")
        if content["version"] != VERSION:
            raise ValueError(f"{path} has version {content['version']}; this package reads {VERSION}")
        count, shards = content.pop("count"), [ShardInfo(**shard) for shard in content.pop("shards")]
        manifest = cls(content, shards)
        assert count == manifest.count
        return manifest


def digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def record_type(fields: Sequence[Sequence[Any]]) -> np.dtype:
    """[[name, type, shape], ...] behind the checksum; fixed-size numbers only, so that no pickle can hide."""
    kinds = [("crc", "<u4"), *((name, kind, tuple(shape)) for name, kind, shape in fields)]
    record = np.dtype(kinds)
    assert not record.hasobject
    return record


def condition_fields(cond: CondSpec | TextSpec) -> list[list[Any]]:
    """What a record holds beside its latent: labels, or a caption as its encoder answered it."""
    if isinstance(cond, CondSpec):
        return [["label", "<i4", [cond.slots]]]
    tokens = [cond.max_tokens, cond.token_width]
    return [["pooled", "<f2", [cond.pooled_width]], ["tokens", "<f2", tokens], ["mask", "|b1", tokens[:1]]]


def fields_of(arrays: Mapping[str, np.ndarray]) -> list[list[Any]]:
    """What `record_type` reads, for arrays that share their first axis."""
    return [[name, array.dtype.str, list(array.shape[1:])] for name, array in arrays.items()]


def write_shard(path: Path, number: int, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> int:
    """Writes a whole shard or none; returns where its records begin. `about` goes into it as JSON."""
    key = f"{number:05d}"
    records = np.zeros(len(next(iter(arrays.values()))), record_type(fields_of(arrays)))
    for name, array in arrays.items():
        records[name] = array
    row = np.arange(len(records))
    raw = records.view(np.uint8).reshape(len(records), -1)
    records["crc"] = checksums(raw, np.full_like(row, number), row)
    content = io.BytesIO()
    np.save(content, records, allow_pickle=False)
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        add(tar, f"{key}.json", json.dumps(about).encode())
        start = add(tar, f"{key}.npy", content.getvalue())
    return start + content.tell() - records.nbytes


def add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Returns where the content begins."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
    return tar.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def inspect_shard(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON of a finished shard, and where its records begin. Raises ValueError where it is damaged."""
    try:
        with tarfile.open(path) as tar, open(path, "rb") as file:
            about, records = tar.getmembers()
            file.seek(about.offset_data)
            found = json.loads(file.read(about.size))
            file.seek(records.offset_data)
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return found, file.tell()
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no whole shard of latents ({error}); remove it") from None


def checksums(raw: np.ndarray, shard: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Of each record (n, bytes) but for its first four bytes, begun with its place."""
    size = raw.shape[1]
    content = raw.data.cast("B")
    places = ((shard << 20) + row & 0xFFFFFFFF).tolist()
    found = [zlib.crc32(content[k * size + 4 : (k + 1) * size], place) for k, place in enumerate(places)]
    return np.array(found, np.uint32)


def quantise(z: Float[Tensor, "B C H W"]) -> tuple[UInt8[Tensor, "B C H W"], float]:
    """(bytes, clip): the clip value with the least squared error, judged by samples spread over the shard."""
    seen = z[:: max(1, z.numel() // JUDGED)]
    size = np.sort(seen.abs().flatten().numpy())
    limits = [float(size[round(q * (len(size) - 1))]) for q in QUANTILES]
    clips = sorted({max(clip, 1e-6) for clip in (float(z.abs().max()), *limits)})
    best = min(clips, key=lambda clip: squared_error(to_bytes(seen, clip), clip, seen))
    return to_bytes(z, best), best


def to_bytes(z: Float[Tensor, "B C H W"], clip: float) -> UInt8[Tensor, "B C H W"]:
    return ((z / clip + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def dequantise(q: UInt8[Tensor, "B C H W"], clip: Float[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    """0..255 to -clip..clip, a few samples at a time, so that they stay in the processor's cache."""
    z = torch.empty(q.shape)
    parts = zip(z.split(CACHED), q.split(CACHED), clip.view(-1, 1, 1, 1).split(CACHED), strict=True)
    for out, part, limit in parts:
        out.copy_(part).mul_(limit / 127.5).sub_(limit)
    return z


def squared_error(q: UInt8[Tensor, "B C H W"], clip: float, z: Float[Tensor, "B C H W"]) -> float:
    return float((dequantise(q, torch.full((len(q),), clip)) - z).square().mean())
