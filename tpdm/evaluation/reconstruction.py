"""Held-out images beside what is left of them after encoding and decoding."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from tpdm.runtime.plots import png, sample_grid

PEAK = 2.0  # images are in [-1, 1]
COLUMNS, PAIRS = 8, 32


class Reconstructions:
    """Draws PNGs into `folder`: a row of images, a row of their reconstructions, and so on.

    `network` is a spare AutoencoderKL, for the weights.
    """

    def __init__(self, folder: Path, network: nn.Module, images: Float[Tensor, "B C H W"], batch_size: int):
        self.folder, self.images, self.batch_size = folder, images, batch_size
        self.network: Any = network.eval().requires_grad_(False)

    def __call__(self, step: int, weights: dict[str, Tensor]) -> tuple[Image.Image, float]:
        """The picture, and the PSNR over all images."""
        self.network.to(next(iter(weights.values())).device).load_state_dict(weights)
        again = torch.cat([self.again(part) for part in self.images.split(self.batch_size)])
        rows = [row for pair in self.rows(again) for row in pair]
        image = sample_grid(torch.cat(rows), columns=COLUMNS, scale=6)
        self.folder.mkdir(exist_ok=True)
        png(image, self.folder / f"step_{step + 1:08d}.png")
        return image, psnr(again, self.images)

    @torch.no_grad()
    def again(self, x: Tensor) -> Tensor:
        """Through the mode of the posterior, as a trained codec does it."""
        x = x.to(self.network.device)
        return self.network.decode(self.network.encode(x).latent_dist.mode()).sample.clamp(-1, 1).cpu()

    def rows(self, again: Tensor) -> list[tuple[Tensor, Tensor]]:
        shown = len(again) // COLUMNS * COLUMNS or len(again)
        given, back = (x[: min(PAIRS, shown)].split(COLUMNS) for x in (self.images, again))
        return list(zip(given, back, strict=True))


def psnr(x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> float:
    """Peak signal-to-noise ratio in decibels: of the mean squared error over all images."""
    return float(10 * torch.log10(PEAK**2 / (x - y).square().mean()))
