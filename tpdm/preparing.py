"""A data set as shards of latents: each whole or not there, and a manifest when all of them are."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tpdm.assembly import device_of, text_sha256
from tpdm.codec.latent import LatentCodec
from tpdm.data.damage import Damage, DamagedError
from tpdm.data.shards import (
    VERSION,
    Manifest,
    ShardInfo,
    condition_fields,
    fields_of,
    inspect_shard,
    quantise,
    squared_error,
    write_shard,
)
from tpdm.data.stored import Stored
from tpdm.registry import build
from tpdm.runtime.atomic import leftovers
from tpdm.runtime.progress import Progress
from tpdm.types import Codec, CondSpec, Text

Config = dict[str, Any]
Item = TypeVar("Item")
Made = TypeVar("Made")
NOT_THE_SAME = ("workers", "reshard", "max_skipped")  # settings that change no latent


def prepare(cfg: Config) -> None:
    """Writes this process's share of the shards; whoever finds all of them there writes the manifest."""
    out = Path(cfg["out"])
    part, parts = share(cfg["part"], cfg["parts"])
    source = check_source(build("data", cfg["data"], split="train"), cfg["data"]["name"])
    text = text_codec(cfg, source)
    codec, device = build("codec", cfg["codec"]), device_of(cfg["device"])
    about = about_of(cfg, source, codec, text)
    out.mkdir(parents=True, exist_ok=True)
    data: Stored = build("data", cfg["data"], split="train", skipped=out / "skipped.jsonl")
    encode = Encoder(codec, text, device)
    shards = np.array_split(data.rows, range(cfg["shard_size"], len(data), cfg["shard_size"]))
    paths = [out / f"{number:05d}.tar" for number in range(len(shards))]
    mine = range(part, len(shards), parts)
    batches = [-(-len(rows) // cfg["batch_size"]) for rows in shards]
    done = [number for number in mine if is_finished(paths[number], about)]
    writer = Writer(data, encode, cfg["precision"], cfg["batch_size"], about)
    total, initial = sum(batches[k] for k in mine), sum(batches[k] for k in done)
    with Progress(total, f"prepare {part + 1}/{parts}", initial=initial) as progress:
        for number in mine:
            if number not in done:
                writer.write(paths[number], number, shards[number], progress)
    if all(path.is_file() for path in paths):
        manifest = manifest_of(paths, about)
        manifest.write(out)
        size = sum(path.stat().st_size for path in paths)
        print(
            f"{out}: {manifest.count} latents in {len(paths)} shards, {size / 1e6:.1f} MB, "
            f"PSNR {manifest.psnr:.1f} dB, {len(data) - manifest.count} samples left out"
        )


LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))  # torchrun's, srun's


def share(part: int | None, parts: int | None) -> tuple[int, int]:
    """Which process this is, and of how many; where nobody says, the launcher's variables do."""
    if (part is None) != (parts is None):
        raise ValueError(f"part={part} and parts={parts} are given together or not at all")
    if part is None or parts is None:
        known = (names for names in LAUNCHERS if all(name in os.environ for name in names))
        rank, size = next(known, LAUNCHERS[0])
        return int(os.environ.get(rank, "0")), int(os.environ.get(size, "1"))
    if part >= parts:
        raise ValueError(f"part={part} does not exist among parts={parts}; the first is 0")
    return part, parts


def check_source(data: Any, name: str) -> Stored:
    """Raises ValueError where there is nothing to encode."""
    if not isinstance(data, Stored):
        raise ValueError(f"data={name} is made anew in every batch, so that there is nothing to prepare")
    if data.encoded_by is not None:
        raise ValueError(f"data={name} is latents already")
    return data


def text_codec(cfg: Config, data: Stored) -> Any:
    """What encodes captions; None for labels. ValueError where that would be trained, or cannot read them."""
    if data.cond is not None:
        return None
    name = cfg["codec"]["text"]["name"]
    if name in ("labels", "transformer_text"):
        why = "is trained with the denoiser" if name == "transformer_text" else "reads labels"
        raise ValueError(
            f"data={cfg['data']['name']} has captions, and codec/text={name} {why}, so that nothing can be "
            "prepared of them; use codec/text=clip or t5, or data.labels=none"
        )
    return build("codec/text", cfg["codec"]["text"], captions=tuple, vocabulary=None)


def about_of(cfg: Config, data: Stored, codec: Codec, text: Any) -> Config:
    """What all shards share, and what has to be the same to go on writing them."""
    shape = list(codec.shape_of(data.shape))
    kinds = {"uint8": "|u1", "float16": "<f2"}
    cond = data.cond or text.spec
    symbols = range(cond.symbols) if isinstance(cond, CondSpec) else ()
    scaled = codec.scaled if isinstance(codec, LatentCodec) else None
    return {
        "version": VERSION,
        "codec": cfg["codec"],
        "codec_sha256": codec.sha256,
        "precision": cfg["precision"],
        "shape": shape,
        "text_sha256": None if text is None else text_sha256(text),
        "scale": scaled and scaled.scale.tolist(),
        "shift": scaled and scaled.shift.tolist(),
        "cond": asdict(cond),
        "classes": list(getattr(data, "classes", None) or map(str, symbols)),
        "fields": [["latent", kinds[cfg["precision"]], shape], *condition_fields(cond)],
        "shard_size": cfg["shard_size"],
        "seed": cfg["seed"],
        "source": {key: value for key, value in cfg["data"].items() if key not in NOT_THE_SAME},
    }


def is_finished(path: Path, about: Config) -> bool:
    """Raises ValueError where the shard is of other settings."""
    if not path.is_file():
        return False
    found = inspect_shard(path)[0]["about"]
    for key in about:
        if found.get(key) != about[key]:
            raise ValueError(
                f"{path} was made with {key}={found.get(key)}, not {about[key]}; choose another out"
            )
    return True


def manifest_of(paths: list[Path], about: Config) -> Manifest:
    infos = []
    for path in paths:
        found, offset = inspect_shard(path)
        infos.append(ShardInfo(name=path.name, offset=offset, **found["shard"]))
    return Manifest(about, infos)


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

    def __init__(self, data: Stored, encode: Encoder, precision: str, batch_size: int, about: Config):
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
