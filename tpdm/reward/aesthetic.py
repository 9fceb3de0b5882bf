"""How good an image looks, whatever was asked: LAION's heads on CLIP's image embedding."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tpdm.registry import Positive, register
from tpdm.reward.clip import MODEL
from tpdm.reward.cost import Cost
from tpdm.reward.pixels import pixels
from tpdm.reward.scorer import Scorer
from tpdm.runtime.hub import published
from tpdm.runtime.weights import read_weights

LAYERS = ("0", "2", "4", "6", "7")  # of the published MLP; dropout stands between them


@register("reward", "aesthetic")
class Aesthetic(Scorer):
    """A number around 5.

    `path` is CLIP-L in transformers' format, a folder or an id of the hub; `head` the file of the published
    weights: one linear layer (sa_0_4_vit_l_14_linear.pth), or the MLP (sac+logos+ava1-l14-linearMSE.pth).
    """

    uses_prompts = False

    def __init__(
        self,
        path: str,
        head: str,
        batch_size: Positive[int],
        cost: Cost,
        *,
        device: torch.device,
        key: str = "reward",
    ):
        super().__init__(cost, batch_size, device, key)
        self.folder = published(path, MODEL, f"{key}.path")
        self.head = published_file(head, f"{key}.head")

    def load(self) -> nn.Module:
        from transformers import CLIPModel

        clip = CLIPModel.from_pretrained(self.folder, use_safetensors=True)
        state = read_weights(self.head, f"{self.key}.head")
        return nn.ModuleDict({"clip": clip, "head": head(state, f"{self.key}.head")})

    def score(self, images: Float[Tensor, "B C H W"], prompts: Sequence[str]) -> Float[Tensor, "B"]:
        clip: Any = self.network["clip"]
        seen = pixels(images, clip.config.vision_config.image_size)
        embedding = clip.visual_projection(clip.vision_model(seen).pooler_output)
        return self.network["head"](F.normalize(embedding.float(), dim=-1))[:, 0]


def published_file(path: str, key: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{key}={path} is no file; accepted: a published head of LAION's aesthetics")
    return file


def head(state: Mapping[str, Tensor], key: str = "reward.head") -> nn.Module:
    """The head that a published state dict is of; ValueError with the setting `key` where it is of none."""
    if state.keys() == {"weight", "bias"}:
        return linear(state, "")
    names = [f"layers.{place}." for place in LAYERS]
    if state.keys() != {name + part for name in names for part in ("weight", "bias")}:
        raise ValueError(f"{key} has {', '.join(sorted(state))}, which is no published head")
    return nn.Sequential(*(linear(state, name) for name in names))


def linear(state: Mapping[str, Tensor], prefix: str) -> nn.Linear:
    weight, bias = state[f"{prefix}weight"], state[f"{prefix}bias"]
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
