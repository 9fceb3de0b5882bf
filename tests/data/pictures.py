"""Images that can be told from one another after any resizing, and a loader's answer as plain values."""

import io
from itertools import islice

import numpy as np
from PIL import Image

from tpdm.data.loader import Loader


def encoded(grey, size=(12, 8), kind="PNG"):
    """One flat shade."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey,) * 3).save(buffer, kind)
    return buffer.getvalue()


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
