"""T5's encoder with published weights (Raffel et al. 2020), frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from tpdm.codec.published import load_published, load_tokens
from tpdm.registry import Positive, register
from tpdm.types import Text, TextSpec


@register("codec/text", "t5")
class T5Text(nn.Module):
    """Captions to `Text`, float32, on the device of the weights; pooled is the mean over the tokens.

    Raises ValueError where weights or tokenizer are not found or do not fit.
    """

    reads = "captions"
    null = None
    vocabulary = None  # its own, beside its weights

    def __init__(
        self,
        path: str,
        tokenizer: str | None,
        max_tokens: Positive[int],
        dtype: Literal["float32", "bfloat16", "float16"],
    ):
        from transformers import T5EncoderModel  # slow to import

        super().__init__()
        self.net, _ = load_published(T5EncoderModel, path, dtype)
        self.tokens = load_tokens(tokenizer or path, max_tokens)
        width = self.net.config.d_model
        self.spec = TextSpec(width, width, max_tokens)

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> Text:
        ids, mask = (x.to(self.net.device) for x in self.tokens(captions))
        tokens = self.net(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weight = mask[..., None].float()
        return Text((tokens * weight).sum(1) / weight.sum(1), tokens, mask)

    def network(self) -> None:
        """It is not trained."""
        return
