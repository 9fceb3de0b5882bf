"""Captions as Stable Diffusion 3 reads them: two CLIPs and T5, by the pipeline's own code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from tpdm.codec.published import silent
from tpdm.registry import Positive, register
from tpdm.runtime.atomic import read_json, whole_file
from tpdm.runtime.fingerprint import Fingerprint, ends_sha256
from tpdm.runtime.hub import published
from tpdm.runtime.memory import memory_of
from tpdm.types import Text, TextSpec, cat_conditions

CLIPS, T5 = ("text_encoder", "text_encoder_2"), "text_encoder_3"
PARTS, TOKENIZERS = (*CLIPS, T5), ("tokenizer", "tokenizer_2", "tokenizer_3")
FILES = [
    "model_index.json",
    *(f"{part}/{file}" for part in PARTS for file in ("config.json", "*.safetensors")),
    *(f"{tokenizer}/*" for tokenizer in TOKENIZERS),
]
CLIP_TOKENS = 77


@register("codec/text", "sd3")
class SD3Text(nn.Module):
    """`path` is a pipeline's folder or an id of the hub; `max_tokens` are T5's, after CLIP's 77.

    The encoders are read when there is something to encode, and leave memory after it. `cache`, a folder,
    keeps each answer, by caption and encoder. A null caption is the empty one, as the pipeline has it.
    """

    reads = "captions"
    vocabulary = None  # its own, beside its weights

    def __init__(
        self,
        path: str,
        max_tokens: Positive[int],
        batch_size: Positive[int],
        dtype: Literal["bfloat16", "float16", "float32"],
        cache: str | None,
    ):
        super().__init__()
        self.folder = published(path, FILES, "codec.text.path")
        self.max_tokens, self.batch_size = max_tokens, batch_size
        self.dtype = getattr(torch, dtype)
        self.cache = None if cache is None else Path(cache).expanduser()
        self.device = torch.device("cpu")

    @property
    def spec(self) -> TextSpec:
        first, second, t5 = (read_json(self.folder / p / "config.json") for p in PARTS)
        pooled = first["projection_dim"] + second["projection_dim"]
        return TextSpec(pooled, t5["d_model"], CLIP_TOKENS + self.max_tokens)

    def to(self, device: torch.device) -> SD3Text:  # type: ignore[override]
        """Where the encoders will work; what they answer stays on the CPU."""
        self.device = device
        return self

    def network(self) -> None:
        """They are not trained."""
        return

    @cached_property
    def null(self) -> Text:
        if detect_fake_mode() is not None:  # where sizes are counted, and nothing can be encoded
            return Text.nothing(self.spec)
        return self([""])

    def forward(self, captions: Sequence[str]) -> Text:
        first = "null" not in vars(self)  # which is encoded with the first, while the encoders are there
        asked = dict.fromkeys([*captions, ""] if first else captions)
        known = {caption: text for caption in asked if (text := self.kept(caption)) is not None}
        fresh = [caption for caption in asked if caption not in known]
        for caption, answer in zip(fresh, self.encode(fresh), strict=True):
            known[caption] = answer
            self.keep(caption, answer)
        if first:
            self.null = known[""]
        every = cat_conditions([known[caption] for caption in captions])
        assert isinstance(every, Text), "made of texts"
        return every

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> list[Text]:
        """One record for each; the encoders live for this call."""
        if not captions:
            return []
        from diffusers import StableDiffusion3Pipeline

        with silent():
            pipeline: Any = StableDiffusion3Pipeline.from_pretrained(
                self.folder, transformer=None, vae=None, dtype=self.dtype, use_safetensors=True
            ).to(self.device)
        with memory_of(min(len(captions), self.batch_size), "prompts", "codec.text.batch_size"):
            return self.answers(pipeline, captions)

    def answers(self, pipeline: Any, captions: Sequence[str]) -> list[Text]:
        """`batch_size` captions at once, a record for each."""
        parts = []
        for start in range(0, len(captions), self.batch_size):
            prompts = list(captions[start : start + self.batch_size])
            tokens, _, pooled, _ = pipeline.encode_prompt(
                prompts,
                None,
                None,
                device=self.device,
                do_classifier_free_guidance=False,
                max_sequence_length=self.max_tokens,
            )
            parts += [whole(p, t) for p, t in zip(pooled.cpu().split(1), tokens.cpu().split(1), strict=True)]
        return parts

    def kept(self, caption: str) -> Text | None:
        """From the cache; None where it is not there."""
        from safetensors.torch import load_file

        file = self.place(caption)
        if file is None or not file.exists():
            return None
        state = load_file(file)
        return whole(state["pooled"], state["tokens"])

    def keep(self, caption: str, text: Text) -> None:
        from safetensors.torch import save

        if (file := self.place(caption)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as writer:
                writer.write(save({"pooled": text.pooled.contiguous(), "tokens": text.tokens.contiguous()}))

    def place(self, caption: str) -> Path | None:
        """A file named for the caption and all that its answer depends on."""
        if self.cache is None:
            return None
        asked = json.dumps([self.fingerprint.hex(), self.max_tokens, str(self.dtype), caption])
        return self.cache / f"{hashlib.sha256(asked.encode()).hexdigest()}.safetensors"

    def get_extra_state(self) -> Tensor:
        """What a state dict holds in the place of weights, so that other encoders are told from these."""
        return torch.frombuffer(bytearray(self.fingerprint), dtype=torch.uint8)

    @cached_property
    def fingerprint(self) -> bytes:
        """Of the encoders' configs, of their weights' lengths and ends, and of the whole tokenizers."""
        words = files(self.folder, TOKENIZERS, "*")
        tokenizers = [(file.parent.name, file.name, Fingerprint.of(file).sha256) for file in words]
        return ends_sha256(files(self.folder, PARTS, "config.json", "*.safetensors"), tokenizers)


def files(folder: Path, parts: Sequence[str], *patterns: str) -> list[Path]:
    """Those of a pipeline's parts, always in the same order."""
    return [file for part in parts for glob in patterns for file in sorted((folder / part).glob(glob))]


def whole(pooled: Tensor, tokens: Tensor) -> Text:
    """Every token is read, those that fill up too, as the pipeline does."""
    return Text(pooled, tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
