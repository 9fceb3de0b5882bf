"""Stable Diffusion's convolutional U-Net with cross-attention (Rombach et al. 2022), as diffusers has it."""

import math
import threading
from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor, nn

from tpdm.nn.attention import check_heads
from tpdm.nn.conv import halved
from tpdm.nn.embed import CaptionDropout, LabelEmbedding
from tpdm.nn.init import zero
from tpdm.nn.tokens import map_to_tokens
from tpdm.registry import Fraction, Positive, register
from tpdm.types import Condition, CondSpec, DataShape, Features, FeatureSpec, Text, TextSpec

SHOWN = threading.local()  # what parts of a network answered, in the thread that asked
Context = tuple[Float[Tensor, "B M D"], Bool[Tensor, "B M"] | None, Float[Tensor, "B E"]]


class LabelContext(nn.Module):
    """A token for each label, and their sum."""

    def __init__(self, cond: CondSpec, width: int, dropout: float):
        super().__init__()
        self.label = LabelEmbedding(cond, width, dropout)
        self.pooled_width = width

    def forward(self, cond: Tensor) -> Context:
        tokens = self.label(cond)
        return tokens, None, tokens.sum(1)


class CaptionContext(nn.Module):
    """The tokens of a caption in the width of the attention, where there are some, and the whole in one."""

    def __init__(self, cond: TextSpec, width: int, dropout: float):
        super().__init__()
        self.drop = CaptionDropout(dropout)
        self.project = nn.Linear(cond.token_width, width)
        self.pooled_width = cond.pooled_width

    def forward(self, cond: Text) -> Context:
        text, dtype = self.drop(cond), self.project.weight.dtype
        return self.project(text.tokens.to(dtype)), text.mask, text.pooled.to(dtype)


@register("model", "unet")
class UNet(nn.Module):
    """Backbone: (x, timestep, labels or captions) -> raw output, `outputs` values per channel, and Features.

    `base_width` channels at full resolution, times each of `multipliers`; all stages but the last attend to
    the condition's tokens, at `width`; the condition as a whole goes with the time, as in SDXL (Podell et al.
    2023), without which a small network takes long to listen. Its tokens are the pixels. Raises ValueError
    where sizes do not divide.
    """

    def __init__(
        self,
        base_width: Positive[int],
        multipliers: tuple[Positive[int], ...],
        depth: Positive[int],
        num_heads: Positive[int],
        width: Positive[int],
        max_frequency: Positive[float],
        condition_dropout: Fraction[float],
        *,
        shape: DataShape,
        cond: CondSpec | TextSpec,
        outputs: int = 1,
    ):
        from diffusers import UNet2DConditionModel  # slow to import

        super().__init__()
        check_heads("model", base_width, num_heads, "base_width")
        sizes = halved(shape, len(multipliers))
        self.features = FeatureSpec(base_width, 4 * base_width, width, sizes[0])
        self.max_frequency = max_frequency

        self.context = (
            CaptionContext(cond, width, condition_dropout)
            if isinstance(cond, TextSpec)
            else LabelContext(cond, width, condition_dropout)
        )
        attends = [True] * (len(multipliers) - 1) + [len(multipliers) == 1]
        self.net = UNet2DConditionModel(
            in_channels=shape.channels,
            out_channels=outputs * shape.channels,
            block_out_channels=tuple(base_width * factor for factor in multipliers),
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
            layers_per_block=depth,
            attention_head_dim=num_heads,  # diffusers' name for the number of them
            cross_attention_dim=width,
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=self.context.pooled_width,
            norm_num_groups=math.gcd(32, base_width),
        )
        for name in ("conv_in", "time_embedding", "class_embedding", "conv_norm_out"):
            self.net.get_submodule(name).register_forward_hook(partial(show, name))
        zero(self.net.conv_out)

    def forward(
        self, x: Float[Tensor, "B C H W"], timestep: Float[Tensor, "B"], cond: Condition
    ) -> tuple[Tensor, Features]:
        text, mask, pooled = self.context(cond)
        told = timestep * self.max_frequency / 1000  # diffusers turns it by 1 rad per unit
        shown = vars(SHOWN)
        raw = self.net(x.to(text.dtype), told, text, pooled, encoder_attention_mask=mask, return_dict=False)[
            0
        ]
        first, last = (map_to_tokens(shown.pop(name)) for name in ("conv_in", "conv_norm_out"))
        temb = shown.pop("time_embedding") + shown.pop("class_embedding")
        return raw, Features(first, last, temb, text, self.features.hw)


def show(name: str, module: nn.Module, args: tuple, answer: Tensor) -> None:
    """A hook: keeps what a part of the network answers until `forward` takes it away."""
    setattr(SHOWN, name, answer)
