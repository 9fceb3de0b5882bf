"""Images as the published scorers were trained to see them."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def eight_bits(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3 H W"]:
    """From [-1, 1] to the 256 levels of a file, in [0, 255], grey in all three channels."""
    images = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
    return images.expand(-1, 3, -1, -1)


def pixels(
    images: Float[Tensor, "B C H W"],
    size: int,
    fit: Literal["crop", "pad"] = "crop",
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
) -> Float[Tensor, "B 3 S S"]:
    """Bicubic to `size` x `size`, and normalised: the shorter side is fitted and the middle cut out, or the
    longer side is fitted and black put around it. Rounded to 8 bits in between, as Pillow resizes."""
    x = eight_bits(images)
    height, width = x.shape[2:]
    scale = size / (min(height, width) if fit == "crop" else max(height, width))
    hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    if hw != (height, width):
        x = F.interpolate(x, hw, mode="bicubic", antialias=True).round().clamp(0, 255)
    x = centred(x, size)
    shape = (1, 3, 1, 1)
    return (x / 255 - x.new_tensor(mean).view(shape)) / x.new_tensor(std).view(shape)


def centred(x: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C S S"]:
    """The middle `size` x `size`: what is over is cut off, what is missing is black."""
    height, width = x.shape[2:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return F.pad(x, (-left, size - width + left, -top, size - height + top))


def side(positions: int, patch_size: int) -> int:
    """Side of the square images that a transformer with so many patches reads."""
    return round(positions**0.5) * patch_size
