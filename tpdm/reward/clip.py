"""How near an image and its prompt are in CLIP's space, as CLIP has it and as people's choices tuned it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.registry import Positive, register
from tpdm.reward.cost import Cost
from tpdm.reward.pixels import eight_bits
from tpdm.reward.scorer import Scorer
from tpdm.runtime.hub import published

MODEL = ["config.json", "*.safetensors"]
PROCESSOR = ["preprocessor_config.json", "tokenizer*.json"]


class CLIPScorer(Scorer):
    """`path` is a CLIP in transformers' format, `processor` its tokenizer and image sizes; both folders or
    ids of the hub."""

    def __init__(
        self,
        path: str,
        processor: str,
        batch_size: Positive[int],
        cost: Cost,
        *,
        device: torch.device,
        key: str = "reward",
    ):
        super().__init__(cost, batch_size, device, key)
        self.folder = published(path, MODEL, f"{key}.path")
        self.processing = published(processor, PROCESSOR, f"{key}.processor")

    @cached_property
    def processor(self) -> Any:
        from transformers import CLIPProcessor

        return CLIPProcessor.from_pretrained(self.processing)

    def load(self) -> nn.Module:
        from transformers import CLIPModel

        return CLIPModel.from_pretrained(self.folder, use_safetensors=True)

    def cosine(self, images: Float[Tensor, "B C H W"], prompts: Sequence[str]) -> Float[Tensor, "B"]:
        """Of the two embeddings."""
        read = self.processor(
            text=list(prompts),
            images=list(eight_bits(images).to(torch.uint8)),
            padding=True,
            truncation=True,
            return_tensors="pt",
        ).to(images.device)
        both = self.network(**read)
        return torch.cosine_similarity(both.image_embeds, both.text_embeds)


@register("reward", "clip_score")
class CLIPScore(CLIPScorer):
    """100 times the cosine (Hessel et al. 2021, without their cut at 0, below which nothing could be
    learned)."""

    def score(self, images: Float[Tensor, "B C H W"], prompts: Sequence[str]) -> Float[Tensor, "B"]:
        return 100 * self.cosine(images, prompts)


@register("reward", "pick_score")
class PickScore(CLIPScorer):
    """The cosine times the learned scale, of a CLIP tuned on what people chose (Kirstain et al. 2023)."""

    def score(self, images: Float[Tensor, "B C H W"], prompts: Sequence[str]) -> Float[Tensor, "B"]:
        return self.network.logit_scale.exp() * self.cosine(images, prompts)
