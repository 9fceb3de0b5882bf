"""What a network costs, counted without computing it: its tensors may be fake ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Size:
    """Of a network and one forward pass of it."""

    parameters: int
    multiply_adds: int
    saved_bytes: int


NOTHING = Size(0, 0, 0)


def size_of(module: nn.Module, forward: Callable[[], Any]) -> Size:
    """`forward` calls the module once; it is called in training."""
    module.train()
    parameters = sum(p.numel() for p in module.parameters())
    return Size(parameters, multiply_adds(forward), saved_bytes(module, forward))


def multiply_adds(forward: Callable[[], Any]) -> int:
    """Of matrix products, convolutions and attention, by torch's counter, to which each is two operations."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops() // 2


def saved_bytes(module: nn.Module, forward: Callable[[], Any]) -> int:
    """What autograd keeps for a backward pass beside the module's own tensors; shared storage once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[id(storage)] = storage  # alive, so that no other storage gets its id
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        forward()
    own = {id(x.untyped_storage()) for x in (*module.parameters(), *module.buffers())}
    return sum(storage.nbytes() for key, storage in kept.items() if key not in own)
