"""Captions to token ids of one length; what is cut off is told."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

WARNINGS = 5  # of one tokenizer: a data set may have thousands of long captions


class Tokens:
    """Cut after `max_tokens`, the marks of begin and end among them, and filled up with `pad`."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, pad: int):
        tokenizer.enable_truncation(max_tokens)
        tokenizer.enable_padding(length=max_tokens, pad_id=pad)
        self.tokenizer, self.max_tokens, self.warned = tokenizer, max_tokens, 0

    def __call__(self, captions: Sequence[str]) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
        """(ids, where a token is). Warns of a caption that is too long, with what it loses."""
        found = self.tokenizer.encode_batch(list(captions))
        for caption, encoding in zip(captions, found, strict=True):
            if encoding.overflowing:
                self.warn(caption, encoding.overflowing[0])
        ids = torch.tensor([encoding.ids for encoding in found])
        return ids, torch.tensor([encoding.attention_mask for encoding in found]).bool()

    def warn(self, caption: str, rest: Encoding) -> None:
        if self.warned == WARNINGS:
            return
        self.warned += 1
        places = zip(rest.offsets, rest.special_tokens_mask, strict=True)
        start = next(start for (start, _), special in places if not special)
        last = "; more such captions are not told of" if self.warned == WARNINGS else ""
        warnings.warn(
            f"{caption!r} is longer than {self.max_tokens} tokens; cut off: {caption[start:]!r}{last}",
            stacklevel=2,
        )
