"""ImageReward (Xu et al. 2023): BLIP reads image and prompt together, an MLP says what people prefer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tpdm.registry import Positive, register
from tpdm.reward.cost import Cost
from tpdm.reward.pixels import pixels, side
from tpdm.reward.scorer import Scorer
from tpdm.runtime.atomic import read_json
from tpdm.runtime.hub import published
from tpdm.runtime.weights import load_exactly, read_weights

MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the published network's answers to its own data
MAX_TOKENS = 35
VIT_LARGE = {"num_heads": 16}  # what the weights do not tell; every size is theirs
WEIGHTS, CONFIG = "ImageReward.pt", "med_config.json"
UNREAD = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")  # by the score
SPECIAL = ["[DEC]", "[ENC]"]  # BLIP's, last in its vocabulary
NO_IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "sep_token_id"))  # nothing is generated


class ImageReward(nn.Module):
    """(pixels, input_ids, attention_mask) -> one number each, normalised as published."""

    def __init__(self, visual_encoder: nn.Module, text_encoder: nn.Module, mlp: nn.Module):
        super().__init__()
        self.blip = nn.ModuleDict({"visual_encoder": visual_encoder, "text_encoder": text_encoder})
        self.mlp = mlp

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], med_config: Mapping[str, Any], vit_config: Mapping[str, Any]
    ) -> ImageReward:
        """The published weights under their own names; ValueError for one too many, too few or of another
        size. Of `vit_config` only `num_heads` is read: the sizes are those of the weights."""
        state = {name: x for name, x in state_dict.items() if not name.startswith(UNREAD)}
        width = size_of(state, "blip.visual_encoder.cls_token")[-1]
        network = cls(vision(state, vit_config), bert(med_config, width), layers(state))
        load_exactly(network, state, WEIGHTS)
        return network.eval()

    @property
    def image_size(self) -> int:
        patches: Any = self.blip["visual_encoder"].patch_embed
        return side(patches.num_patches, patches.patch_size[0])

    def score(
        self,
        pixels: Float[Tensor, "B 3 S S"],
        input_ids: Int[Tensor, "B M"],
        attention_mask: Int[Tensor, "B M"],
    ) -> Float[Tensor, "B"]:
        """`pixels` are normalised, the mask is 1 where a token is."""
        image = self.blip["visual_encoder"](pixels)  # (B, N + 1, D)
        read = self.blip["text_encoder"](
            input_ids, attention_mask=attention_mask, encoder_hidden_states=image, is_decoder=False
        )
        return (self.mlp(read.last_hidden_state[:, 0].float())[:, 0] - MEAN) / STD

    forward = score


def vision(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> nn.Module:
    """BLIP's image encoder is timm's ViT, of which every token is read."""
    from timm.models.vision_transformer import VisionTransformer

    width, _, patch_size, _ = size_of(state, "blip.visual_encoder.patch_embed.proj.weight")
    positions = size_of(state, "blip.visual_encoder.pos_embed")[1] - 1
    hidden = size_of(state, "blip.visual_encoder.blocks.0.mlp.fc1.weight")[0]
    return VisionTransformer(
        img_size=side(positions, patch_size),
        patch_size=patch_size,
        embed_dim=width,
        depth=count(state, "blip.visual_encoder.blocks."),
        num_heads=config["num_heads"],
        mlp_ratio=hidden / width,
        num_classes=0,
        global_pool="",
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )


def bert(config: Mapping[str, Any], image_width: int) -> nn.Module:
    """BERT with cross-attention to the image on every layer, which transformers has under the same names."""
    from transformers import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    others = ("max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id")
    if missing := [key for key in (*sizes, *others) if key not in config]:
        raise ValueError(f"{CONFIG} lacks {missing[0]}")
    chosen = {key: config[key] for key in (*sizes, *others)}
    made = BlipTextConfig(**chosen, encoder_hidden_size=image_width, is_decoder=True, **NO_IDS)
    return BlipTextModel(made, add_pooling_layer=False)


def layers(state: Mapping[str, Tensor]) -> MLP:
    """Five linear layers, and nothing between them but dropout, which a score does not have."""
    names = ("0", "2", "4", "6", "7")
    sizes = [size_of(state, f"mlp.layers.{name}.weight") for name in names]
    linear = {name: nn.Linear(size[1], size[0]) for name, size in zip(names, sizes, strict=True)}
    places = [linear.get(str(place), nn.Identity()) for place in range(8)]
    return MLP(nn.Sequential(*places))


class MLP(nn.Module):
    """Layers under the name `layers`."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B 1"]:
        return self.layers(x)


def size_of(state: Mapping[str, Tensor], name: str) -> torch.Size:
    if name not in state:
        raise ValueError(f"{WEIGHTS} lacks {name}")
    return state[name].shape


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


@register("reward", "image_reward")
class ImageRewardScorer(Scorer):
    """`path` has ImageReward.pt and med_config.json, `tokenizer` is BERT's; each a folder or an id of the
    hub."""

    def __init__(
        self,
        path: str,
        tokenizer: str,
        batch_size: Positive[int],
        cost: Cost,
        *,
        device: torch.device,
        key: str = "reward",
    ):
        super().__init__(cost, batch_size, device, key)
        self.folder = published(path, [WEIGHTS, CONFIG], f"{key}.path")
        self.words = published(tokenizer, ["tokenizer*"], f"{key}.tokenizer")

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.words)
        tokenizer.add_tokens(SPECIAL, special_tokens=True)
        return tokenizer

    def load(self) -> ImageReward:
        config = read_json(self.folder / CONFIG)
        state = read_weights(self.folder / WEIGHTS, f"{self.key}.path")
        return ImageReward.from_official(state, config, VIT_LARGE)

    def score(self, images: Float[Tensor, "B C H W"], prompts: Sequence[str]) -> Float[Tensor, "B"]:
        read = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(images.device)
        seen = pixels(images, self.network.image_size)
        return self.network.score(seen, read.input_ids, read.attention_mask)
