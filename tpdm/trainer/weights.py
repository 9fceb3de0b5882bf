"""Which weights a network runs with while others learn: its own, or their copies in half precision."""

from __future__ import annotations

import copy

import torch
from torch import nn


class OwnWeights:
    """The network that learns is the one that runs."""

    collects_parts = False  # whether the gradients of each part of a batch are collected by themselves

    def __init__(self, network: nn.Module):
        self.running = network

    def follow(self) -> None:
        """Before a forward pass: the running weights become those that learn."""

    def collect(self) -> None:
        """After a backward pass: what the running weights were told is added to the gradients."""


class HalfWeights:
    """The network runs in bfloat16 throughout, and a float32 master of every weight learns (Micikevicius et
    al. 2018, section 3.1). The master is the network that was given: optimiser, average and files know no
    other. Nothing is cast on the way through, and bfloat16 has the range of float32: no loss is scaled.
    """

    collects_parts = True  # so that their sum is float32's

    def __init__(self, network: nn.Module):
        self.running = copy.deepcopy(network).bfloat16()
        self.pairs = list(zip(network.parameters(), self.running.parameters(), strict=True))

    @torch.no_grad()
    def follow(self) -> None:
        masters, copies = zip(*self.pairs, strict=True)
        torch._foreach_copy_(list(copies), list(masters))

    @torch.no_grad()
    def collect(self) -> None:
        for master, low in self.pairs:
            if low.grad is not None:
                master.grad = low.grad.float() if master.grad is None else master.grad.add_(low.grad)
                low.grad = None


Weights = OwnWeights | HalfWeights
WEIGHTS = {"bf16_weights": HalfWeights}  # of a precision that is not one of autocast's


def weights_of(network: nn.Module, precision: str) -> Weights:
    return WEIGHTS.get(precision, OwnWeights)(network)
