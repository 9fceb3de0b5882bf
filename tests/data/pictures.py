"""Images that can be told from one another after any resizing, and a loader's answer as plain values."""

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from tpdm.data.loader import Loader


def encoded(grey, size=(12, 8), kind="PNG"):
    """One flat shade."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey,) * 3).save(buffer, kind)
    return buffer.getvalue()


def packed(members, layout=tarfile.PAX_FORMAT):
    """A tar of (name, content) in this order, names taken as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def idx(values):
    """An IDX file of bytes."""
    array = np.asarray(values)
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def every_kind(folder: Path, count=20):
    """One tiny data set of each kind that is read from files; the names are those of tests/test_config.py."""
    shades = range(count)
    (folder / "images").mkdir()
    for shade in shades:
        (folder / "images" / f"{shade}.png").write_bytes(encoded(shade))
    faces = "\n".join(f"{shade}.png {1 if shade % 2 else -1}" for shade in shades)
    (folder / "list.txt").write_text(f"{count}\nMale\n{faces}\n")
    (folder / "prompts.txt").write_text("a zero\na one\n")
    (folder / "shards.tar").write_bytes(packed((f"{shade}.png", encoded(shade)) for shade in shades))
    (folder / "mnist").mkdir()
    for part in ("train", "t10k"):
        digits = np.arange(count)
        (folder / "mnist" / f"{part}-images-idx3-ubyte").write_bytes(idx(np.zeros((count, 28, 28))))
        (folder / "mnist" / f"{part}-labels-idx1-ubyte").write_bytes(idx(digits % 10))


def shades(x0):
    return np.rint((x0.mean((1, 2, 3)).numpy() + 1) * 127.5).astype(int).tolist()


def epoch(data, batch_size=None):
    """{shade: condition} of everything met in one epoch."""
    size = batch_size or len(data)
    loader = Loader(data, size, seed=0)
    found = {}
    for x0, cond in islice(loader, -(-len(data) // size)):
        values = cond if isinstance(cond, list) else cond.squeeze(1).tolist()
        found |= dict(zip(shades(x0), values, strict=True))
    return found
