"""How large a model is, without the memory for it."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tpdm.types import CondSpec, DataShape

LATENTS, CLASSES = DataShape(4, 32, 32), CondSpec(slots=1, symbols=1000)


def parameters_and_multiply_adds(
    make: Callable[[], nn.Module], cond: Callable[[], object]
) -> tuple[int, float]:
    """Counts for one row of latents of 4x32x32, conditioned by `cond()`."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = make()
        model(torch.empty(1, *LATENTS), torch.empty(1), cond())
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 2


def one_label() -> torch.Tensor:
    return torch.empty(1, 1, dtype=torch.long)
