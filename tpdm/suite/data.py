"""Latents read, against tarfile, training and memory; images encoded, against the codec alone."""

from __future__ import annotations

import copy
import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from tpdm.codec.identity import IdentityCodec
from tpdm.codec.kl_vae import KLVAE
from tpdm.codec.latent import Scaled
from tpdm.data.encoding import Encoder, Writer
from tpdm.data.folder import FolderImages
from tpdm.data.latents import Latents
from tpdm.data.loader import Data, Loader
from tpdm.data.shards import VERSION, Manifest, ShardInfo, condition_fields, quantise, write_shard
from tpdm.registry import Positive, register
from tpdm.runtime.progress import Progress
from tpdm.suite.ratio import Measured, Ratio
from tpdm.suite.resident import opened, resident_after
from tpdm.types import CondSpec, DenoiserLike

SHAPE, COND = (4, 32, 32), CondSpec(slots=1, symbols=1000)
EPOCHS = 10
SIDE, ENCODED = 64, 32  # pixels of an image, and how many are encoded at once


@register("suite", "data")
class DataSuite:
    """The files that it reads are made first, in a folder that is gone afterwards."""

    def __init__(
        self,
        samples: Positive[int],
        shards: Positive[int],
        images: Positive[int],
        batch_size: Positive[int],
        repeats: Positive[int],
        *,
        denoiser: DenoiserLike,
        data: Data,
        seed: int,
        device: torch.device,
    ):
        self.samples, self.shards, self.images = samples, shards, images
        self.batch_size, self.repeats, self.seed, self.device = batch_size, repeats, seed, device
        self.denoiser: Any = copy.deepcopy(denoiser)
        self.data = data

    def __call__(self) -> Measured:
        with tempfile.TemporaryDirectory() as name:
            packed, few, single = (Path(name) / part for part in ("packed", "few", "single.tar"))
            self.store(packed, self.shards)
            self.store(few, max(1, self.shards // 10))
            self.store_singly(single)
            ratios = [*self.memory(packed, few), *self.reading(packed, single), self.first_batch(packed)]
            ratios.append(self.preparing(Path(name)))
            size = sum(path.stat().st_size for path in packed.iterdir())
        facts = {"samples": self.samples, "shards": self.shards, "bytes_a_sample": size / self.samples}
        return Measured(ratios, facts)

    def latents(self) -> np.ndarray:
        generator = torch.Generator().manual_seed(self.seed)
        return quantise(torch.randn(self.samples, *SHAPE, generator=generator))[0].numpy()

    def store(self, folder: Path, shards: int) -> None:
        """What `prepare` would write."""
        folder.mkdir()
        infos = []
        for number, part in enumerate(np.array_split(self.latents(), shards)):
            name, arrays = f"{number:05d}.tar", {"latent": part, "label": np.zeros((len(part), 1), "<i4")}
            offset = write_shard(folder / name, number, arrays, {})
            infos.append(ShardInfo(name, len(part), offset, 3.0, 0.0, 1.0))
        Manifest(about(COND, SHAPE), infos).write(folder)

    def store_singly(self, path: Path) -> None:
        """The same samples, each an .npy and so a member of its own."""
        with tarfile.open(path, "w") as tar:
            for k, latent in enumerate(self.latents()):
                content = io.BytesIO()
                np.save(content, latent)
                info = tarfile.TarInfo(f"{k:06d}.npy")
                info.size = content.tell()
                content.seek(0)
                tar.addfile(info, content)

    def reading(self, packed: Path, single: Path) -> list[Ratio]:
        data = opened(str(packed))
        epoch(data, self.batch_size, self.seed)
        self.train_step()
        against_tar, against_training = [], []
        for _ in range(self.repeats):
            read = seconds(lambda: epoch(data, self.batch_size, self.seed))
            against_tar.append(seconds(lambda: walk(single)) / read)
            trained = seconds(self.train_step) * self.samples / self.batch_size
            against_training.append(trained / read)
        return [
            Ratio("latents read / tarfile and an np.load for each", against_tar, "at least", 6.0),
            Ratio("latents read / what a training step consumes", against_training, "at least", 5.0),
        ]

    def train_step(self) -> None:
        """The denoiser that is configured, forward and backward, on a batch in memory."""
        self.denoiser.train().requires_grad_(True)
        generator = torch.Generator().manual_seed(self.seed)
        x0, cond = (x.to(self.device) for x in self.data.batch(self.batch_size, generator))
        t = torch.rand(len(x0), generator=generator).to(self.device)
        self.denoiser.loss(x0, torch.randn_like(x0), t, cond).mean().backward()
        nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        self.denoiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def first_batch(self, packed: Path) -> Ratio:
        def first() -> None:
            next(Loader(opened(str(packed)), self.batch_size, self.seed))

        name = f"first batch of {self.shards} shards, seconds"
        return Ratio(name, [seconds(first) for _ in range(self.repeats)], "at most", 1.0)

    def memory(self, packed: Path, few: Path) -> list[Ratio]:
        """Resident bytes of processes that only read."""
        grown, sharded = [], []
        for _ in range(self.repeats):
            many = resident_after(packed, self.batch_size, self.seed, EPOCHS)
            fewer = resident_after(few, self.batch_size, self.seed, 1)
            grown.append(many[-1] / many[0])
            sharded.append(many[0] / fewer[0])
        return [
            Ratio(f"memory after {EPOCHS} epochs / after one", grown, "at most", 1.05),
            Ratio(f"memory with {self.shards} shards / with a tenth of them", sharded, "at most", 1.05),
        ]

    def preparing(self, folder: Path) -> Ratio:
        """An autoencoder of the size that is trained here, with random weights."""
        codec = random_codec(folder / "codec")
        make_images(folder / "images", self.images, self.seed)
        images = str(folder / "images")
        data = FolderImages(images, "none", None, SIDE, 3, False, 0.0, 2, False, 0.0, split="train")
        x0 = data.load(data.rows, np.zeros(len(data), bool))[0].to(self.device)
        settings = about(CondSpec(1, 1), tuple(codec.shape_of(data.shape)))
        writer = Writer(data, Encoder(codec, None, self.device), "uint8", ENCODED, settings)

        def bare() -> None:
            for part in x0.split(ENCODED):
                codec.encode(part).cpu()

        def prepared() -> None:
            with Progress(1, "prepare", silent=True) as progress:
                writer.write(folder / "prepared.tar", 0, data.rows, progress)

        prepared()
        values = [seconds(bare) / seconds(prepared) for _ in range(self.repeats)]
        return Ratio("prepare / its encoder alone, images a second", values, "at least", 0.9)


def about(cond: CondSpec, shape: tuple[int, ...]) -> dict[str, Any]:
    fields = [["latent", "|u1", list(shape)], *condition_fields(cond)]
    codec = {"codec": {"name": "identity"}, "codec_sha256": IdentityCodec.sha256, "text_sha256": None}
    sizes = {"shape": list(shape), "cond": vars(cond), "classes": [], "fields": fields}
    return {"version": VERSION, "precision": "uint8", **codec, **sizes}


def epoch(data: Latents, batch_size: int, seed: int) -> None:
    for _ in islice(Loader(data, batch_size, seed), -(-len(data) // batch_size)):
        pass


def walk(path: Path) -> None:
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            np.load(io.BytesIO(file.read()), allow_pickle=False)


def random_codec(folder: Path) -> KLVAE:
    settings = (4, 32, (1, 2, 4, 4), 1, ENCODED)
    blank = KLVAE(None, *settings)
    blank.save(folder, Scaled(blank.network(3), torch.zeros(4), torch.ones(4)), 3)
    return KLVAE(str(folder), *settings)


def make_images(folder: Path, count: int, seed: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for k in range(count):
        pixels = random.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:05d}.png")


def seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
