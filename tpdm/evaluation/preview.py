"""Grids of the same seeds while a denoiser trains, and the film they make."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tpdm.denoiser import Denoiser
from tpdm.runtime.plots import gif, png, sample_grid
from tpdm.sampler.integrate import follow, integrate
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.step import abm
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Codec, Condition, DataShape, Scheduler

SEEDS = range(2**30, 2**30 + 64)  # apart from those of training and of evaluation
COLUMNS, STEPS = 8, 16


class Preview:
    """Kept as PNGs, so that a resumed run can film them all. `backbone` is a spare one, for the weights."""

    def __init__(
        self,
        folder: Path,
        backbone: torch.nn.Module,
        scheduler: Scheduler,
        codec: Codec,
        shape: DataShape,
        cond: Condition,
    ):
        self.folder, self.codec, self.cond = folder, codec, cond
        self.backbone = backbone.eval().requires_grad_(False)
        self.denoiser = Denoiser(self.backbone, scheduler)
        self.noise = initial_noise(SEEDS, shape)

    def __call__(self, step: int, weights: dict[str, Tensor]) -> Image.Image:
        """The grid drawn with these weights, in 16 uniform second-order steps."""
        device = next(iter(weights.values())).device
        self.backbone.to(device).load_state_dict(weights)
        levels = by_noise_level(self.denoiser.scheduler).t_max * torch.linspace(1, 0, STEPS + 1)
        next_time = follow(levels.to(device).expand(len(SEEDS), -1))
        noise, cond = self.noise.to(device), self.cond.to(device)
        x0 = integrate(self.denoiser, noise, cond, next_time, abm, STEPS).x0
        image = sample_grid(self.codec.decode(x0), columns=COLUMNS, scale=4)
        self.folder.mkdir(exist_ok=True)
        png(image, self.folder / f"step_{step + 1:08d}.png")
        return image

    def film(self, path: Path) -> None:
        gif([Image.open(file) for file in sorted(self.folder.glob("step_*.png"))], path)
