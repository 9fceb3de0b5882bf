"""Images as the published scorers were trained to see them."""

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
) -> Float[Tensor, "B 3 S S"]:
    """`size` x `size` of the images' files, normalised; what does not fit is cut off, or surrounded."""
    x = (cropped if fit == "crop" else padded)(eight_bits(images), size)
    mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (x / 255 - mean) / std


def cropped(x: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C S S"]:
    """CLIP's way, which ImageReward and the aesthetic head share: the shorter side becomes `size`, the longer
    one is rounded down, and its middle is cut out. Pillow, which does it, rounds after either direction."""
    height, width = x.shape[2:]
    longer = int(size * max(height, width) / min(height, width))
    hw = (size, longer) if height <= width else (longer, size)
    for direction in ((height, hw[1]), hw):
        if direction != x.shape[2:]:
            x = F.interpolate(x, direction, mode="bicubic", antialias=True).round().clamp(0, 255)
    top, left = (round((length - size) / 2) for length in hw)
    return x[:, :, top : top + size, left : left + size]


def padded(x: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C S S"]:
    """HPS v2's way: it resizes after the levels have become numbers, so that none is rounded and some pass
    black or white. The longer side becomes `size`, black is put around; an odd line goes below and right."""
    height, width = x.shape[2:]
    scale = size / max(height, width)
    hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    if hw != (height, width):
        x = F.interpolate(x, hw, mode="bicubic", antialias=True)
    rows, columns = size - hw[0], size - hw[1]
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def side(positions: int, patch_size: int) -> int:
    """Side of the square images that a transformer with so many patches reads."""
    return round(positions**0.5) * patch_size
