"""A text encoder in CLIP's design (Radford et al. 2021) that starts at random, trained with a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor, nn

from tpdm.codec.tokens import Tokens
from tpdm.nn.attention import check_heads
from tpdm.registry import Positive, register
from tpdm.types import Text, TextSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MARKS = PAD, UNKNOWN, BEGIN, END = ("[PAD]", "[UNK]", "[BEGIN]", "[END]")  # the first of every vocabulary


class TransformerEncoder(nn.Module):
    """Causal attention over words; the pooled embedding is the answer at the mark of the end."""

    def __init__(self, width: int, depth: int, num_heads: int, max_tokens: int, num_words: int):
        from transformers import CLIPTextConfig, CLIPTextModel  # slow to import

        super().__init__()
        config = CLIPTextConfig(
            vocab_size=num_words,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            max_position_embeddings=max_tokens,
            pad_token_id=MARKS.index(PAD),
            bos_token_id=MARKS.index(BEGIN),
            eos_token_id=MARKS.index(END),
        )
        self.net = CLIPTextModel(config)

    def forward(self, ids: Int[Tensor, "B M"]) -> Text:
        answer = self.net(input_ids=ids)  # what is filled up stands behind the end, where nobody looks back
        return Text(answer.pooler_output, answer.last_hidden_state, ids != MARKS.index(PAD))


@register("codec/text", "transformer_text")
class TransformerText:
    """Captions to token ids; its `network` encodes them, and is trained as a part of the denoiser.

    Words are those of the training captions, or the `vocabulary` of a denoiser that exists.
    """

    reads = "captions"
    null = None

    def __init__(
        self,
        width: Positive[int],
        depth: Positive[int],
        num_heads: Positive[int],
        max_tokens: Positive[int],
        max_words: Positive[int],
        *,
        captions: Callable[[], Iterable[str]],
        vocabulary: Sequence[str] | None,
    ):
        check_heads("codec.text", width, num_heads)
        if max_tokens < 3:
            raise ValueError(f"codec.text.max_tokens={max_tokens} has no room for a word; use 3 or more")
        self.sizes = (width, depth, num_heads, max_tokens)
        self.max_words, self.captions, self.known = max_words, captions, vocabulary
        self.spec = TextSpec(width, width, max_tokens)

    @cached_property
    def vocabulary(self) -> list[str]:
        """Words in the order of their ids, after the marks."""
        return fit_vocabulary(self.captions(), self.max_words) if self.known is None else list(self.known)

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(word_tokenizer(self.vocabulary), self.spec.max_tokens, MARKS.index(PAD))

    def __call__(self, captions: Sequence[str]) -> Int[Tensor, "B M"]:
        return self.tokens(captions)[0]

    def network(self) -> TransformerEncoder:
        return TransformerEncoder(*self.sizes, num_words=len(self.vocabulary))


def word_tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    """Words and punctuation in lower case, between marks of begin and end."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, MARKS.index(mark)) for mark in (BEGIN, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=marks)
    return tokenizer


def fit_vocabulary(captions: Iterable[str], max_words: int) -> list[str]:
    """The marks, and the words of the captions, the most frequent first. ValueError where there is none."""
    from tokenizers import trainers

    tokenizer = word_tokenizer(MARKS)
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words + len(MARKS), special_tokens=list(MARKS), show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    ids = tokenizer.get_vocab()
    if len(ids) == len(MARKS):
        raise ValueError("codec/text=transformer_text finds no word in the captions of data")
    return sorted(ids, key=ids.__getitem__)
