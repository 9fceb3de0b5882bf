"""The only reshapes between tokens (B, N, D), in raster order, and maps (B, D, H, W)."""

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.types import DataShape


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


def folded_to_map(tokens: Float[Tensor, "B N D"], hw: tuple[int, int]) -> Float[Tensor, "B D H W"]:
    """Raster tokens laid out as if they were 2 x 2 patches, four after the other (the published predictor's
    reading): token 2 w_map h + 4 w + 2 p + q stands at row 2 h + p and column 2 w + q."""
    if hw[0] % 2 or hw[1] % 2:
        raise ValueError(f"predictor.token_order=folded needs an even number of tokens a side, seen {hw}")
    x = tokens.transpose(1, 2).unflatten(2, (hw[0] // 2, hw[1] // 2, 2, 2))  # (B, D, h, w, p, q)
    return x.transpose(3, 4).flatten(4).flatten(2, 3)


def map_to_tokens(x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B N D"]:
    return x.flatten(2).transpose(1, 2)


def map_to_windows(x: Float[Tensor, "B D H W"], window: tuple[int, int]) -> Float[Tensor, "B*windows N D"]:
    """Cuts a map into windows of that many rows and columns; the tokens of each in raster order."""
    h, w = window
    x = x.unflatten(3, (-1, w)).unflatten(2, (-1, h))  # (B, D, rows, h, columns, w)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)


def windows_to_map(
    tokens: Float[Tensor, "B*windows N D"], window: tuple[int, int], hw: tuple[int, int]
) -> Float[Tensor, "B D H W"]:
    """Inverse of `map_to_windows`; `hw` is the size of the map."""
    (h, w), (rows, columns) = window, (hw[0] // window[0], hw[1] // window[1])
    x = tokens.unflatten(1, (h, w)).unflatten(0, (-1, rows, columns))  # (B, rows, columns, h, w, D)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def pool_tokens(
    tokens: Float[Tensor, "B N D"], hw: tuple[int, int], patch_size: int
) -> Float[Tensor, "B M D"]:
    """Means over square patches of the map that the tokens are."""
    h, w = hw
    x = tokens.unflatten(1, (h // patch_size, patch_size, w // patch_size, patch_size))
    return x.mean((2, 4)).flatten(1, 2)


def positions_2d(width: int, hw: tuple[int, int]) -> Float[Tensor, "N D"]:
    """Fixed sine-cosine positions (DiT): the first half encodes the column, the second the row."""
    h, w = hw
    row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    # the device is said aloud: once transformers has loaded weights, torch.device(...) forgets linspace
    octave = torch.linspace(0, 1, width // 4 + 1, dtype=torch.float64, device=row.device)
    frequency = 1e4 ** -octave[:-1]
    angles = [p.flatten()[:, None] * frequency for p in (column, row)]  # 2 x (N, D / 4)
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1).float()


def check_positions(key: str, width: int) -> None:
    """Raises ValueError, naming the config node `key`, where `positions_2d` cannot fill the width."""
    if width % 4:
        raise ValueError(f"{key}.width={width} is not a multiple of 4, as sine-cosine positions in 2-D need")


def check_patches(patch_size: int, shape: DataShape) -> tuple[int, int]:
    """Rows and columns of patches; ValueError where they do not fit the state."""
    if shape.height % patch_size or shape.width % patch_size:
        raise ValueError(
            f"model.patch_size={patch_size} does not divide the {shape.height}x{shape.width} state "
            "that it would cut"
        )
    return shape.height // patch_size, shape.width // patch_size
