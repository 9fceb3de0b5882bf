"""CLIP's text encoder with published weights (Radford et al. 2021), frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from tpdm.codec.published import load_published, load_tokens
from tpdm.registry import register
from tpdm.types import Text, TextSpec

PROJECTION = "text_projection.weight"


@register("codec/text", "clip")
class ClipText(nn.Module):
    """Captions to `Text`, float32, on the device of the weights.

    Pooled is the answer at the mark of the end, projected to where images are compared, if the weights hold
    that projection. Raises ValueError where weights or tokenizer are not found or do not fit.
    """

    reads = "captions"
    null = None
    vocabulary = None  # its own, beside its weights

    def __init__(self, path: str, tokenizer: str | None, dtype: Literal["float32", "bfloat16", "float16"]):
        from transformers import CLIPTextModelWithProjection  # slow to import

        super().__init__()
        self.net, lacking = load_published(CLIPTextModelWithProjection, path, dtype, (PROJECTION,))
        self.projected, config = PROJECTION not in lacking, self.net.config
        self.tokens = load_tokens(tokenizer or path, config.max_position_embeddings)
        pooled_width = config.projection_dim if self.projected else config.hidden_size
        self.spec = TextSpec(pooled_width, config.hidden_size, config.max_position_embeddings)

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> Text:
        ids, mask = (x.to(self.net.device) for x in self.tokens(captions))
        answer = self.net.text_model(input_ids=ids)  # causal: what is filled up is not seen by what is not
        pooled = self.net.text_projection(answer.pooler_output) if self.projected else answer.pooler_output
        return Text(pooled.float(), answer.last_hidden_state.float(), mask)

    def network(self) -> None:
        """It is not trained."""
        return
