"""The only reshapes between tokens (B, N, D), in raster order, and maps (B, D, H, W)."""

import torch
from jaxtyping import Float
from torch import Tensor


def patchify(x: Float[Tensor, "B C H W"], patch_size: int) -> Float[Tensor, "B N P"]:
    """Cuts a map into square patches; a patch's values are ordered (row, column, channel)."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch_size, patch_size, w // patch_size, patch_size)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(
    tokens: Float[Tensor, "B N P"], patch_size: int, hw: tuple[int, int]
) -> Float[Tensor, "B C H W"]:
    """Inverse of `patchify`; `hw` counts patches."""
    x = tokens.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, hw)  # (B, h, w, p, p, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def tokens_to_map(tokens: Float[Tensor, "B N D"], hw: tuple[int, int]) -> Float[Tensor, "B D H W"]:
    return tokens.transpose(1, 2).unflatten(2, hw)


def map_to_tokens(x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B N D"]:
    return x.flatten(2).transpose(1, 2)


def positions_2d(width: int, hw: tuple[int, int]) -> Float[Tensor, "N D"]:
    """Fixed sine-cosine positions (DiT): the first half encodes the column, the second the row."""
    h, w = hw
    row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    frequency = 1e4 ** -torch.linspace(0, 1, width // 4 + 1, dtype=torch.float64)[:-1]
    angles = [p.flatten()[:, None] * frequency for p in (column, row)]  # 2 x (N, D / 4)
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1).float()


def check_positions(key: str, width: int) -> None:
    """Raises ValueError, naming the config node `key`, where `positions_2d` cannot fill the width."""
    if width % 4:
        raise ValueError(f"{key}.width={width} is not a multiple of 4, as sine-cosine positions in 2-D need")
