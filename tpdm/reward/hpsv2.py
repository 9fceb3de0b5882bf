"""HPS v2 (Wu et al. 2023): open_clip's ViT-H/14, tuned on what people preferred."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.registry import Positive, register
from tpdm.reward.cost import Cost
from tpdm.reward.pixels import pixels
from tpdm.reward.scorer import Scorer
from tpdm.runtime.hub import published
from tpdm.runtime.weights import load_exactly, read_weights


@register("reward", "hpsv2")
class HPSv2(Scorer):
    """The cosine of image and prompt.

    `path`, a folder or an id of the hub, has `weights`; `arch` is open_clip's name of the network. Raises
    ValueError where open_clip is not installed.
    """

    def __init__(
        self,
        path: str,
        weights: str,
        arch: str,
        batch_size: Positive[int],
        cost: Cost,
        *,
        device: torch.device,
        key: str = "reward",
    ):
        super().__init__(cost, batch_size, device, key)
        self.library, self.arch = open_clip(), arch
        self.weights = published(path, [weights], f"{key}.path") / weights

    @cached_property
    def tokenizer(self) -> Any:
        return self.library.get_tokenizer(self.arch)

    def load(self) -> nn.Module:
        network = self.library.create_model(self.arch, load_weights=False)
        load_exactly(network, read_weights(self.weights, f"{self.key}.path"), str(self.weights))
        return network

    def score(self, images: Float[Tensor, "B C H W"], prompts: Sequence[str]) -> Float[Tensor, "B"]:
        size = self.network.visual.image_size
        seen = pixels(images, size[0] if isinstance(size, tuple) else size, fit="pad")
        image = self.network.encode_image(seen)
        text = self.network.encode_text(self.tokenizer(list(prompts)).to(images.device))
        return torch.cosine_similarity(image, text)


def open_clip() -> Any:
    try:
        import open_clip
    except ImportError:
        raise ValueError(
            "reward=hpsv2 needs open_clip, which is not installed here; pip install 'tpdm[rewards]'"
        ) from None
    return open_clip
