"""Image-space DiffiT: a U-shape of convolutions and windowed transformers (Hatamizadeh et al. 2024)."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.model.diffit import DiffiTBlock
from tpdm.nn.attention import check_heads
from tpdm.nn.conv import Size, group_norm, halved
from tpdm.nn.embed import LabelEmbedding, TimeEmbedding
from tpdm.nn.init import xavier_linear, zero
from tpdm.nn.tokens import map_to_tokens, map_to_windows, windows_to_map
from tpdm.registry import Fraction, Positive, register
from tpdm.types import CondSpec, DataShape, Features, FeatureSpec


class DiffiTResBlock(nn.Module):
    """x + DiffiTBlock(Conv3x3(Swish(GN(x))), c) (eq. 9 and 10), the transformer in windows of the map."""

    def __init__(self, channels: int, width: int, num_heads: int, cond_width: int, window: Size):
        super().__init__()
        self.window = window
        self.norm = group_norm(channels)
        self.act = nn.SiLU()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.block = DiffiTBlock(channels, width, num_heads, cond_width, window)

    def forward(self, x: Float[Tensor, "B C H W"], cond: Float[Tensor, "B E"]) -> Float[Tensor, "B C H W"]:
        tokens = map_to_windows(self.conv(self.act(self.norm(x))), self.window)  # (B * windows, N, C)
        tokens = self.block(tokens, cond.repeat_interleave(len(tokens) // len(x), dim=0))
        return x + windows_to_map(tokens, self.window, (x.shape[2], x.shape[3]))


class Stage(nn.Module):
    """Blocks at one resolution."""

    def __init__(self, depth: int, channels: int, width: int, num_heads: int, cond_width: int, window: Size):
        super().__init__()
        self.blocks = nn.ModuleList(
            DiffiTResBlock(channels, width, num_heads, cond_width, window) for _ in range(depth)
        )

    def forward(self, x: Float[Tensor, "B C H W"], cond: Float[Tensor, "B E"]) -> Float[Tensor, "B C H W"]:
        for block in self.blocks:
            x = block(x, cond)
        return x


class Up(nn.Module):
    """To twice the resolution, and joined with what the encoder had there."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.enlarge = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, out, 3, padding=1))
        self.join = nn.Conv2d(2 * out, out, 1)

    def forward(self, x: Float[Tensor, "B C H W"], skip: Float[Tensor, "B D 2H 2W"]) -> Tensor:
        return self.join(torch.cat([self.enlarge(x), skip], dim=1))


@register("model", "diffit_unet")
class DiffiTUNet(nn.Module):
    """Backbone: (x, timestep, labels) -> raw output with `outputs` values per channel, and Features.

    `base_width` channels at full resolution, times each of `multipliers`; `width` inside every attention and
    of the embedding. Its tokens are the pixels. Raises ValueError, naming the key, where sizes do not divide.
    """

    def __init__(
        self,
        base_width: Positive[int],
        width: Positive[int],
        num_heads: Positive[int],
        resolution: Positive[int] | None,
        multipliers: tuple[Positive[int], ...],
        depth: Positive[int],
        window: Positive[int],
        max_frequency: Positive[float],
        label_dropout: Fraction[float],
        *,
        shape: DataShape,
        cond: CondSpec,
        outputs: int = 1,
    ):
        super().__init__()
        check_heads("model", width, num_heads)
        sizes = stage_sizes(resolution, len(multipliers), window, shape)
        channels = [base_width * factor for factor in multipliers]
        windows = [(min(window, h), min(window, w)) for h, w in sizes]
        stages = [(depth, c, width, num_heads, width, w) for c, w in zip(channels, windows, strict=True)]
        self.features = FeatureSpec(channels[0], width, width, sizes[0])

        self.time = TimeEmbedding(width, max_frequency)
        self.label = LabelEmbedding(cond, width, label_dropout)
        self.stem = nn.Conv2d(shape.channels, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(Stage(*stage) for stage in stages)
        self.down = nn.ModuleList(nn.Conv2d(c, d, 3, stride=2, padding=1) for c, d in pairwise(channels))
        self.up = nn.ModuleList(Up(c, d) for c, d in pairwise(channels[::-1]))
        self.decoder = nn.ModuleList(Stage(*stage) for stage in stages[-2::-1])
        self.norm = group_norm(channels[0])
        self.act = nn.SiLU()
        self.head = nn.Conv2d(channels[0], outputs * shape.channels, 3, padding=1)
        self.init_weights()

    def forward(
        self, x: Float[Tensor, "B C H W"], timestep: Float[Tensor, "B"], cond: Tensor
    ) -> tuple[Tensor, Features]:
        text = self.label(cond)  # (B, M, E)
        temb = self.time(timestep) + text.sum(1)
        stem = self.stem(x.to(text.dtype))
        last = self.norm(self.u_shape(stem, temb))
        features = Features(map_to_tokens(stem), map_to_tokens(last), temb, text, self.features.hw)
        return self.head(self.act(last)), features

    def u_shape(self, x: Float[Tensor, "B C H W"], temb: Float[Tensor, "B E"]) -> Float[Tensor, "B C H W"]:
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=False):  # the last stage is the bottom
            skips.append(stage(x, temb))
            x = down(skips[-1])
        x = self.encoder[-1](x, temb)
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(up(x, skips.pop()), temb)
        return x

    def init_weights(self) -> None:
        """All initialisation of this model but convolutions (torch's) and biases by position, in order."""
        self.apply(xavier_linear)
        nn.init.normal_(self.label.table.weight, std=0.02)
        for weight in (p for p in self.time.parameters() if p.ndim == 2):
            nn.init.normal_(weight, std=0.02)
        zero(self.head)


def stage_sizes(resolution: int | None, stages: int, window: int, shape: DataShape) -> list[Size]:
    """Height and width at each stage; ValueError where one does not divide into the next, or into windows."""
    if resolution not in (None, shape.height) or (resolution and shape.height != shape.width):
        raise ValueError(
            f"model.resolution={resolution} is not that of the {shape.height}x{shape.width} data; "
            "use model.resolution=null to follow the data"
        )
    sizes = halved(shape, stages)
    for side in (side for size in sizes for side in size):
        if side % min(window, side):
            raise ValueError(f"model.window={window} does not divide the side of {side} that a stage has")
    return sizes
