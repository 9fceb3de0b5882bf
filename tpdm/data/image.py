"""Bytes to pixels: the one place where an image is decoded, resized, cropped, mirrored and scaled."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from tpdm.data.damage import UnreadableError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MODES = {1: "L", 3: "RGB"}


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def decode(content: bytes) -> Image.Image:
    """Raises UnreadableError where the bytes are no whole image."""
    if not content:
        raise UnreadableError("the image is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()  # of a PNG, the checksums, which decoding passes over
        image = Image.open(io.BytesIO(content))
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # a decoder of foreign bytes may raise anything
        raise UnreadableError(f"the image does not decode ({error})") from None
    return image


@dataclass(frozen=True)
class Square:
    """Images of one size."""

    size: int
    channels: int
    flip: bool  # mirror every second one, by the toss of a coin

    def __call__(self, image: Image.Image, coin: bool) -> UInt8[np.ndarray, "H W C"]:
        image = image.convert(MODES[self.channels])
        image = centre_crop(resize(image, self.size), self.size)
        if self.flip and coin:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(image).reshape(self.size, self.size, self.channels)


def resize(image: Image.Image, size: int) -> Image.Image:
    """The shorter side becomes `size`; bicubic, antialiased."""
    width, height = image.size
    if min(width, height) == size:
        return image
    scale = size / min(width, height)
    return image.resize(
        (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BICUBIC
    )


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_pixels(images: UInt8[np.ndarray, "B H W C"]) -> Float[Tensor, "B C H W"]:
    """0..255 to [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
