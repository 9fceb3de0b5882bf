"""A data set as shards of latents: each whole or not there, and a manifest when all of them are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tpdm.assembly import device_of, text_sha256
from tpdm.codec.latent import LatentCodec
from tpdm.data.encoding import Encoder, Writer
from tpdm.data.shards import (
    VERSION,
    Manifest,
    ShardInfo,
    condition_fields,
    inspect_shard,
)
from tpdm.data.stored import Stored
from tpdm.registry import build
from tpdm.runtime.progress import Progress
from tpdm.types import Codec, CondSpec

Config = dict[str, Any]
SKIPPED = "skipped.jsonl"
NOT_THE_SAME = ("workers", "reshard", "max_skipped")  # settings that change no latent


def prepare(cfg: Config) -> None:
    """Writes this process's share of the shards; whoever finds all of them there writes the manifest."""
    out = Path(cfg["out"])
    part, parts = share(cfg["part"], cfg["parts"])
    source = check_source(build("data", cfg["data"], split="train"), cfg["data"]["name"])
    text = text_codec(cfg, source)
    codec, device = build("codec", cfg["codec"]), device_of(cfg["device"])
    about = about_of(cfg, source, codec, text)
    with made(out):
        data: Stored = build("data", cfg["data"], split="train", skipped=out / SKIPPED)
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


@contextmanager
def made(out: Path) -> Iterator[None]:
    """The folder; where the data are refused before a shard is whole, everything is as it was."""
    new, listed = not out.exists(), (out / SKIPPED).exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except ValueError:
        if not listed and all(path.name == SKIPPED for path in out.iterdir()):
            (out / SKIPPED).unlink(missing_ok=True)
            if new:
                out.rmdir()
        raise


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
