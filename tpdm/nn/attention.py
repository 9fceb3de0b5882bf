"""Multi-head attention over tokens, to themselves and to a condition."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

MOST_KEPT = 2**18  # weights of a head; those of longer sequences would fill the memory


class Attention(nn.Module):
    """Self-attention with one fused projection to queries, keys and values."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )  # 3 x (B, heads, N, D/heads)
        if self.training and self.dropout == 0 and keeps_weights(q, k):
            return self.proj(merged(KeptAttention.apply(q * q.shape[-1] ** -0.5, k, v)))
        return self.proj(attend(q, k, v, self.dropout if self.training else 0.0))


class CrossAttention(nn.Module):
    """Queries from the tokens, keys and values from the condition, which may have another width."""

    def __init__(self, width: int, num_heads: int, cond_width: int, dropout: float = 0.0):
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(cond_width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B M T"]) -> Float[Tensor, "B N D"]:
        q = self.q(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(cond).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, self.dropout if self.training else 0.0))


class RelativeBias(nn.Module):
    """A learned number per head for each offset (rows, columns) between two tokens (Liu et al. 2021)."""

    index: Tensor

    def __init__(self, hw: tuple[int, int], num_heads: int):
        super().__init__()
        h, w = hw
        self.table = nn.Parameter(torch.empty((2 * h - 1) * (2 * w - 1), num_heads))
        place = torch.cartesian_prod(torch.arange(h), torch.arange(w))  # (N, 2)
        row, column = (place[:, None] - place + torch.tensor([h - 1, w - 1])).unbind(-1)  # (N, N), from 0
        self.register_buffer("index", row * (2 * w - 1) + column, persistent=False)
        nn.init.normal_(self.table, std=0.02)

    def forward(self) -> Float[Tensor, "heads N N"]:
        return self.table[self.index].permute(2, 0, 1)


class TimeAttention(nn.Module):
    """Self-attention whose queries, keys and values know the time (Hatamizadeh et al. 2024, eq. 3-7).

    q = x Wqs + c Wqt, k and v likewise, and a bias by relative position. `width` is that of the queries.
    """

    def __init__(self, token_width: int, width: int, num_heads: int, cond_width: int, hw: tuple[int, int]):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(token_width, 3 * width)
        self.qkv_cond = nn.Linear(cond_width, 3 * width)
        self.bias = RelativeBias(hw, num_heads)
        self.proj = nn.Linear(width, token_width)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B E"]) -> Float[Tensor, "B N D"]:
        qkv = self.qkv(x) + self.qkv_cond(cond)[:, None]
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, 0.0, self.bias().to(q.dtype)))


def attend(
    q: Tensor, k: Tensor, v: Tensor, dropout: float, bias: Tensor | None = None
) -> Float[Tensor, "B N D"]:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) with the heads merged back into one width."""
    return merged(scaled_dot_product_attention(q, k, v, bias, dropout))


def merged(x: Float[Tensor, "B heads N D/heads"]) -> Float[Tensor, "B N D"]:
    return x.transpose(1, 2).flatten(2)


class KeptAttention(torch.autograd.Function):
    """softmax(q k^T) v for scaled q, which keeps its weights for the backward pass: four matrix products.

    torch's kernel keeps no weights and computes them again, block by block, which on a CPU takes longer.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        weights = (q @ k.mT).softmax(-1)  # (B, heads, N, M)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights = ctx.saved_tensors
        d_scores = torch._softmax_backward_data(grad @ v.mT, weights, -1, weights.dtype)
        return d_scores @ k, d_scores.mT @ q, weights.mT @ grad


def keeps_weights(q: Tensor, k: Tensor) -> bool:
    """Whether `KeptAttention` is worth its memory: on a CPU, for sequences that are not long."""
    return q.device.type == "cpu" and q.shape[-2] * k.shape[-2] <= MOST_KEPT


def check_heads(key: str, width: int, num_heads: int, name: str = "width") -> None:
    """Raises ValueError, naming the config node `key`, where the heads do not divide the width."""
    if width % num_heads:
        raise ValueError(f"{key}.{name}={width} does not divide over {key}.num_heads={num_heads}")
