"""Stable Diffusion 3's transformer of any size, with random weights, and a predictor's training on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tpdm.denoiser import Denoiser, guided
from tpdm.model.pretrained import Hooked
from tpdm.nn.blocks import compile_blocks
from tpdm.runtime.run import Run
from tpdm.runtime.tracking import NullTracker
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.trainer.pool import Pool
from tpdm.trainer.predictor import PredictorTrainer
from tpdm.trainer.stage import Stage
from tpdm.types import FeatureSpec, Scheduler, Text, TextSpec

Mode = Literal["float32", "bfloat16", "compiled"]
CHANNELS, PATCH = 16, 2  # of the latents
POOLED_WIDTH, TOKEN_WIDTH = 64, 64  # of a prompt's embeddings
PROMPTS = 16  # to explore from


class Inputs(NamedTuple):
    """What a transformer is called with."""

    x: Tensor
    timestep: Tensor
    cond: Text


class FewerSteps:
    """Images are worth nothing, and every step costs one."""

    uses_target = uses_prompts = False

    def __call__(self, x0: Tensor, cond: Any, target: Any, prompts: Any = None) -> Tensor:
        return x0.new_zeros(len(x0))

    def cost(self, reward: Tensor, nfe: Tensor) -> Tensor:
        return reward - nfe


@dataclass(frozen=True)
class Workload:
    """What is timed: a transformer, and whatever trains a predictor on its features. It can be pickled."""

    layers: int
    num_heads: int
    head_width: int  # of an attention head
    side: int
    tokens: int
    guidance_scale: float
    scheduler: Scheduler
    sampler: AdaptiveSampler
    make_predictor: Callable[..., Any]
    make_trainer: Callable[..., Any]
    optimizer: Callable[..., Any]
    seed: int
    device: torch.device

    @property
    def features(self) -> FeatureSpec:
        width, side = self.num_heads * self.head_width, self.side // PATCH
        return FeatureSpec(width, width, None, (side, side))

    @property
    def text(self) -> TextSpec:
        return TextSpec(POOLED_WIDTH, TOKEN_WIDTH, self.tokens)

    def network(self, mode: Mode) -> Any:
        """The same weights in every mode."""
        from diffusers import SD3Transformer2DModel

        torch.manual_seed(self.seed)
        network: Any = SD3Transformer2DModel(
            sample_size=self.side,
            patch_size=PATCH,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_layers=self.layers,
            attention_head_dim=self.head_width,
            num_attention_heads=self.num_heads,
            caption_projection_dim=self.features.width,
            joint_attention_dim=TOKEN_WIDTH,
            pooled_projection_dim=POOLED_WIDTH,
            pos_embed_max_size=self.side // PATCH,
        )
        dtype = torch.bfloat16 if mode == "bfloat16" else torch.float32
        nn.Module.to(network, self.device, dtype)  # diffusers' own warns of what it does not do
        network.eval().requires_grad_(False)
        if mode == "compiled":
            compile_blocks(network)
        return network

    def trainer(self, network: Any, folder: Path) -> tuple[PredictorTrainer, Hooked]:
        """Of a predictor with the same random weights in every mode; and the network as it reads it."""
        backbone: Any = Hooked(network)
        denoiser = Denoiser(backbone, self.scheduler)
        null = Text.nothing(self.text)
        torch.manual_seed(self.seed)
        accelerator = Accelerator(cpu=self.device.type == "cpu")
        trainer: PredictorTrainer = self.make_trainer(
            predictor=self.make_predictor(features=self.features),
            denoiser=guided(denoiser, self.guidance_scale, null_cond=null),
            sampler=self.sampler,
            reward=FewerSteps(),
            held_out=None,
            decode=lambda x: x,
            pool=self.pool(),
            optimizer=self.optimizer,
            stage=Stage("predictor", Run(folder), NullTracker(), accelerator, self.seed),
        )
        return trainer, backbone

    def pool(self) -> Pool:
        """Random prompts, each with the noise that its samples start from."""
        batch = self.inputs(PROMPTS)
        return Pool(batch.cond.cpu(), batch.x[:, None].cpu(), None, None)

    def inputs(self, rows: int) -> Inputs:
        """Noise, timesteps and prompts, at random."""
        generator = torch.Generator().manual_seed(self.seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(rows, *shape, generator=generator).to(self.device)

        mask = torch.ones(rows, self.tokens, dtype=torch.bool, device=self.device)
        cond = Text(random(POOLED_WIDTH), random(self.tokens, TOKEN_WIDTH), mask)
        timestep = 1000 * torch.rand(rows, generator=generator).to(self.device)
        return Inputs(random(CHANNELS, self.side, self.side), timestep, cond)
