"""Multi-head attention over tokens, to themselves and to a condition."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


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


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Float[Tensor, "B N D"]:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) with the heads merged back into one width."""
    x: Tensor = scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # (B, heads, N, D/heads)
    return x.transpose(1, 2).flatten(2)


def check_heads(key: str, width: int, num_heads: int) -> None:
    """Raises ValueError, naming the config node `key`, where the heads do not divide the width."""
    if width % num_heads:
        raise ValueError(f"{key}.width={width} does not divide over {key}.num_heads={num_heads}")
