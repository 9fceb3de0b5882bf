"""The parts that a network repeats, and two other ways to run them: recomputed, or compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def blocks(network: nn.Module) -> list[nn.Module]:
    """The members of its outermost ModuleLists: a transformer's blocks, the stages of a U-shape."""
    if isinstance(network, nn.ModuleList):
        return list(network)
    return [block for child in network.children() for block in blocks(child)]


def recompute(block: nn.Module) -> None:
    """Keeps no activations between the block's input and its gradient (Chen et al. 2016, section 4).

    The backward pass computes them again, with the same dropout. Names of weights stay as they are.
    """
    block.forward = recomputed(block.forward)


def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


def compile_blocks(network: nn.Module) -> None:
    """`torch.compile` for each block in place: equal blocks share their code, and no weight is renamed.

    What stands outside of blocks runs as it is: the time to compile does not grow with the depth.
    """
    for block in blocks(network):
        block.compile()
