"""diffusers' DiT, of the size of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tpdm.model.dit import AdaLNZeroBlock, DiT
from tpdm.types import CondSpec, DataShape

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]


def official_dit(model: nn.Module, shape: DataShape, cond: Any, outputs: int) -> tuple[nn.Module, Forward]:
    """The network with random weights, and how it is called; ValueError where it has no counterpart there."""
    first = model.blocks[0] if isinstance(model, DiT) else None
    if not isinstance(model, DiT) or not isinstance(first, AdaLNZeroBlock) or not isinstance(cond, CondSpec):
        raise ValueError(
            "suite=train has a DiT of diffusers beside it; use model=dit_* with adaln_zero and labels"
        )
    if shape.height != shape.width or cond.slots != 1:
        raise ValueError(
            f"suite=train: diffusers' DiT takes square states and one label, not {shape}, {cond}"
        )
    from diffusers import DiTTransformer2DModel

    network = DiTTransformer2DModel(
        num_attention_heads=first.attention.num_heads,
        attention_head_dim=model.features.width // first.attention.num_heads,
        in_channels=shape.channels,
        out_channels=outputs * shape.channels,
        num_layers=len(model.blocks),
        sample_size=shape.width,
        patch_size=model.patch_size,
        num_embeds_ada_norm=cond.symbols,
    )
    return (
        network,
        lambda x, timestep, cond: network(x, timestep=timestep.long(), class_labels=cond[:, 0]).sample,
    )
