"""A backbone together with the text encoder that is trained with it."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tpdm.types import Features, Text


class Captioned(nn.Module):
    """Reads token ids, as in training, or what `encode` made of them, once for a whole trajectory."""

    def __init__(self, backbone: Any, encoder: nn.Module):
        super().__init__()
        self.backbone, self.encoder = backbone, encoder
        self.features = backbone.features

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        timestep: Float[Tensor, "B"],
        cond: Int[Tensor, "B M"] | Text,
    ) -> tuple[Tensor, Features]:
        return self.backbone(x, timestep, self.encoder(cond) if isinstance(cond, Tensor) else cond)

    @torch.no_grad()
    def encode(self, ids: Int[Tensor, "B M"]) -> Text:
        """On the device of the weights; float32, since it is kept and met again."""
        device = next(self.encoder.parameters()).device
        text: Text = self.encoder(ids.to(device))
        return Text(text.pooled.float(), text.tokens.float(), text.mask)
