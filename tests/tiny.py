"""Small real networks with random weights everywhere: a zero at the start would hide what it multiplies."""

from typing import TypeVar

import torch
from torch import nn

from tpdm.denoiser import Denoiser
from tpdm.model.dit import AdaLNZeroBlock, Block, DiT
from tpdm.predictor.vit import ViTPredictor
from tpdm.types import CondSpec, DataShape, FeatureSpec, Scheduler

SHAPE, COND = DataShape(1, 8, 8), CondSpec(slots=2, symbols=3)
Module = TypeVar("Module", bound=nn.Module)


def scrambled(module: Module, seed: int = 0, std: float = 0.1) -> Module:
    """The module with noise on every weight."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data.add_(torch.randn(p.shape, generator=generator), alpha=std)
    return module


def tiny_dit(block: type[Block] = AdaLNZeroBlock, outputs: int = 1, label_dropout: float = 0.1) -> DiT:
    torch.manual_seed(0)
    return DiT(32, 2, 2, 2, 100.0, label_dropout, block, shape=SHAPE, cond=COND, outputs=outputs)


def tiny_denoiser(scheduler: Scheduler) -> Denoiser:
    """Frozen, as a predictor meets it."""
    return Denoiser(scrambled(tiny_dit()), scheduler).eval().requires_grad_(False)


def tiny_predictor(features: FeatureSpec, dropout: float = 0.0) -> ViTPredictor:
    torch.manual_seed(0)
    predictor = ViTPredictor(
        width=16,
        depth=1,
        num_heads=2,
        patch_size=1,
        patch_embedding="linear",
        mlp_ratio=2.0,
        dropout=dropout,
        attention_dropout=dropout,
        time="log_t",
        time_width=16,
        text="mean",
        projection_width=None,
        init_logits=(1.5, 0.5),
        logit_cap=4.0,
        epsilon=1.0,
        features=features,
    )
    return scrambled(predictor)


def conditions(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(COND.symbols, (count, COND.slots), generator=torch.Generator().manual_seed(seed))
