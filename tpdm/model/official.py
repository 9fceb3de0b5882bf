"""Weights under the names that a model's own authors gave them, taken one by one: none is left over."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tpdm.nn.embed import NoiseLevelEmbedding
from tpdm.types import CondSpec, DataShape, TextSpec

Weights = dict[str, Tensor]


class Official(ABC):
    """A published state dict. ValueError for a tensor that is missing, left over or of another size."""

    def __init__(self, state_dict: Mapping[str, Tensor]):
        self.left = dict(state_dict)

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """Arguments of the model, but `num_heads`."""

    @abstractmethod
    def weights(self, model: nn.Module) -> Weights:
        """All tensors under the names that they have here, in the sizes that they have here."""

    def load_into(self, model: nn.Module) -> None:
        try:
            weights = self.weights(model)
        except RuntimeError as error:  # of tensors that were to be turned or copied
            raise ValueError(f"the official weights do not fit each other: {error}") from None
        if self.left:
            raise ValueError(f"the official weights hold {min(self.left)}, which this model does not have")
        for name, wanted in model.state_dict().items():
            if weights[name].shape != wanted.shape:
                seen, needed = tuple(weights[name].shape), tuple(wanted.shape)
                raise ValueError(f"the official weights make {name} {seen}, where this model has {needed}")
        model.load_state_dict(weights)
        model.eval()

    def look(self, name: str, ndim: int | None = None) -> Tensor:
        if name not in self.left:
            raise ValueError(f"the official weights lack {name}")
        if ndim not in (None, self.left[name].ndim):
            seen = tuple(self.left[name].shape)
            raise ValueError(f"the official {name} has {ndim} axes, and here it is {seen}")
        return self.left[name]

    def take(self, name: str) -> Tensor:
        tensor = self.look(name)
        del self.left[name]
        return tensor

    def layers(self, names: Mapping[str, str]) -> Weights:
        """Weight and bias of layers that are the same, by their name there and their name here."""
        parts = ("weight", "bias")
        return {f"{ours}.{p}": self.take(f"{theirs}.{p}") for theirs, ours in names.items() for p in parts}

    def constant(self, name: str, expected: Tensor) -> None:
        """Takes a tensor that nothing trains, and that is computed here."""
        given = self.take(name)
        if given.shape != expected.shape or not torch.allclose(given.to(expected), expected, rtol=1e-5):
            raise ValueError(f"the official {name} is not what this model computes in its place")

    def depth(self, blocks: str) -> int:
        """How many blocks there are under this name."""
        found = [re.match(rf"{re.escape(blocks)}\.(\d+)\.", name) for name in self.left]
        return 1 + max((int(match[1]) for match in found if match), default=-1)


class OfficialTransformer(Official):
    """What DiT and DiffiT have in common: everything outside of the blocks."""

    def sizes(self) -> dict[str, Any]:
        width, channels, patch_size, _ = self.look("x_embedder.proj.weight", 4).shape
        return {
            "width": width,
            "depth": self.depth("blocks"),
            "patch_size": patch_size,
            "max_frequency": 1000.0,
            "label_dropout": 0.1,
            "shape": square(channels, self.look("pos_embed", 3).shape[1], patch_size),
            "cond": CondSpec(slots=1, symbols=len(self.look("y_embedder.embedding_table.weight", 2)) - 1),
            "outputs": len(self.look("final_layer.linear.bias", 1)) // (channels * patch_size**2),
        }

    def embeddings(self, model: nn.Module) -> Weights:
        positions = model.get_buffer("positions")
        positions.copy_(self.take("pos_embed").view_as(positions))
        return {
            "patch.weight": patch_weight(self.take("x_embedder.proj.weight")),
            "patch.bias": self.take("x_embedder.proj.bias"),
            "label.table.weight": self.take("y_embedder.embedding_table.weight"),
            **self.layers({"t_embedder.mlp.0": "time.mlp.0", "t_embedder.mlp.2": "time.mlp.2"}),
            **self.layers({"final_layer.linear": "head"}),
        }


class OfficialDiT(OfficialTransformer):
    """The names of facebookresearch/DiT."""

    def weights(self, model: nn.Module) -> Weights:
        weights = self.embeddings(model) | self.layers(
            {"final_layer.adaLN_modulation.1": "norm.modulation.proj"}
        )
        for block in (f"blocks.{k}" for k in range(self.depth("blocks"))):
            weights |= self.layers(
                {
                    f"{block}.attn.qkv": f"{block}.attention.qkv",
                    f"{block}.attn.proj": f"{block}.attention.proj",
                    f"{block}.mlp.fc1": f"{block}.mlp.fc1",
                    f"{block}.mlp.fc2": f"{block}.mlp.fc2",
                    f"{block}.adaLN_modulation.1": f"{block}.modulation.proj",
                }
            )
        return weights


class OfficialDiffiT(OfficialTransformer):
    """The names of NVlabs/DiffiT."""

    def weights(self, model: nn.Module) -> Weights:
        weights = self.embeddings(model)
        for block in (f"blocks.{k}" for k in range(self.depth("blocks"))):
            weights |= self.layers(
                {
                    f"{block}.attn.qkv": f"{block}.attention.qkv",
                    f"{block}.attn.qkv_temb": f"{block}.attention.qkv_cond",
                    f"{block}.attn.proj": f"{block}.attention.proj",
                    f"{block}.mlp.fc1": f"{block}.mlp.fc1",
                    f"{block}.mlp.fc2": f"{block}.mlp.fc2",
                }
            )
            bias = f"{block}.attention.bias"
            weights[f"{bias}.table"] = self.take(f"{block}.attn.relative_position_bias_table")
            self.constant(f"{block}.attn.relative_position_index", model.get_buffer(f"{bias}.index"))
        return weights


class OfficialTLD(Official):
    """The names of apapiu/transformer_latent_diffusion."""

    trunk = "denoiser_trans_block"

    def sizes(self) -> dict[str, Any]:
        tokens, width = self.look(f"{self.trunk}.pos_embed.weight", 2).shape
        _, channels, patch_size, _ = self.look(f"{self.trunk}.patchify_and_embed.0.weight", 4).shape
        speeds = self.look("fourier_feats.0.angular_speeds", 1)
        text_width = self.look("label_proj.weight", 2).shape[1]
        return {
            "width": width,
            "depth": self.depth(f"{self.trunk}.decoder_blocks"),
            "patch_size": patch_size,
            "max_frequency": 2 * math.pi * round(speeds[-1].item() / (2 * math.pi), 2),
            "dropout": 0.0,
            "caption_dropout": 0.0,
            "shape": square(channels, tokens, patch_size),
            "cond": TextSpec(pooled_width=text_width, token_width=text_width, max_tokens=1),
            "fourier_width": 2 * len(speeds),
        }

    def weights(self, model: nn.Module) -> Weights:
        level = model.get_submodule("noise_level")
        assert isinstance(level, NoiseLevelEmbedding)
        patch, positions = f"{self.trunk}.patchify_and_embed", self.take(f"{self.trunk}.pos_embed.weight")
        conv = self.take(f"{patch}.0.weight")
        self.constant("fourier_feats.0.angular_speeds", level.frequencies(conv.device))
        self.constant(f"{self.trunk}.precomputed_pos_enc", torch.arange(len(positions)))
        weights = {
            "positions": positions,
            "patch.0.weight": patch_weight(conv),
            "patch.0.bias": self.take(f"{patch}.0.bias"),
            "head.weight": patch_rows(self.take(f"{self.trunk}.out_proj.0.weight"), conv),
            "head.bias": patch_rows(self.take(f"{self.trunk}.out_proj.0.bias"), conv),
            **self.layers({f"{patch}.{k}": f"patch.{k - 1}" for k in (2, 3, 4)}),
            **self.layers({"fourier_feats.1": "noise_level.mlp.0", "fourier_feats.3": "noise_level.mlp.2"}),
            **self.layers({"norm": "norm", "label_proj": "caption"}),
        }
        for k in range(self.depth(f"{self.trunk}.decoder_blocks")):
            weights |= self.block(f"{self.trunk}.decoder_blocks.{k}", f"blocks.{k}")
        return weights

    def block(self, theirs: str, ours: str) -> Weights:
        attention = {"self_attention.qkv_linear": "qkv", "cross_attention.q_linear": "q"}
        attention |= {"cross_attention.kv_linear": "kv"}
        weights = {f"{ours}.{b}.weight": self.take(f"{theirs}.{a}.weight") for a, b in attention.items()}
        weights |= self.layers({f"{theirs}.norm{k}": f"{ours}.norm{k}" for k in (1, 2, 3)})
        mlp = self.layers(
            {f"{theirs}.mlp.mlp.{k}": f"{ours}.mlp.{p}" for k, p in {0: "up", 1: "mix", 3: "down"}.items()}
        )
        for name in ("up", "down"):  # convolutions of one pixel
            mlp[f"{ours}.mlp.{name}.weight"] = mlp[f"{ours}.mlp.{name}.weight"].flatten(1)
        return weights | mlp


def square(channels: int, tokens: int, patch_size: int) -> DataShape:
    """The state that is cut into so many patches."""
    side = math.isqrt(tokens)
    if side**2 != tokens:
        raise ValueError(f"the official weights have {tokens} positions, which make no square")
    return DataShape(channels, side * patch_size, side * patch_size)


def patch_weight(conv: Tensor) -> Tensor:
    """A convolution (D, C, p, p) from patch to patch, for patches in the order (row, column, channel)."""
    return conv.permute(0, 2, 3, 1).flatten(1)


def patch_rows(x: Tensor, conv: Tensor) -> Tensor:
    """Rows for the values of a patch, from the order (channel, row, column) to (row, column, channel)."""
    return x.unflatten(0, conv.shape[1:]).movedim(0, 2).flatten(0, 2)
