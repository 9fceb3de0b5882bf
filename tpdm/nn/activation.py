"""Activations that a compiler can make fast."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu


class TanhGELU(nn.Module):
    """GELU in its tanh form (Hendrycks & Gimpel 2016, section 2), as DiT has it.

    Compiled, it is written with tanh(u) = 2 sigmoid(2u) - 1, since compiled exponentials are faster on a CPU
    than compiled tanhs. Uncompiled, torch's own kernel goes over the memory once.
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return sigmoid_gelu(x) if torch.compiler.is_compiling() else gelu(x, approximate="tanh")


def sigmoid_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
