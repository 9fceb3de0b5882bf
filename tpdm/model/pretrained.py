"""Stable Diffusion 3 and 3.5 as diffusers has them, frozen, read through hooks; nothing is forked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from tpdm.registry import register
from tpdm.runtime.atomic import read_record
from tpdm.runtime.fingerprint import ends_sha256
from tpdm.runtime.hub import published
from tpdm.types import Condition, CondSpec, DataShape, Features, FeatureSpec, Text, TextSpec

CONFIG, WEIGHTS = "transformer/config.json", "transformer/*.safetensors"
SHOWN = ("pos_embed", "time_text_embed", "norm_out")  # what the hooks read


class Hooked:
    """A transformer of diffusers, made to show its patch embedding, time-text embedding and final norm.

    It is no module, so that whoever holds it neither saves, moves nor rounds the transformer's weights.
    """

    def __init__(self, network: Any):
        self.network = network
        self.shown: dict[str, Tensor] = {}
        for name in SHOWN:
            network.get_submodule(name).register_forward_hook(partial(self.show, name))

    def __call__(
        self, x: Float[Tensor, "B C H W"], timestep: Float[Tensor, "B"], cond: Condition
    ) -> tuple[Tensor, Features]:
        assert isinstance(cond, Text), "labels are refused where it is built"
        dtype, patch_size = next(self.network.parameters()).dtype, self.network.config.patch_size
        raw = self.network(
            hidden_states=x.to(dtype),
            encoder_hidden_states=cond.tokens.to(dtype),
            pooled_projections=cond.pooled.to(dtype),
            timestep=timestep,
            return_dict=False,
        )[0]
        first, temb, last = (self.shown.pop(name) for name in SHOWN)
        hw = (x.shape[2] // patch_size, x.shape[3] // patch_size)
        return raw, Features(first, last, temb, None, hw)

    def show(self, name: str, module: nn.Module, args: tuple, answer: Tensor) -> None:
        """A hook: keeps what a part of the network answers until the call takes it away."""
        self.shown[name] = answer


@register("model", "sd3")
class SD3(nn.Module):
    """Backbone: (x, timestep, captions) -> velocity and Features, by a transformer that is not trained.

    `path` is a pipeline's folder or an id of the hub, `lora` a file or folder of low-rank changes, which are
    added to the weights. They are read at the first call, where x is, and no state dict holds them: that has
    their fingerprint, which is compared. Raises ValueError where files are missing, or do not fit the data.
    """

    ready_made = True

    def __init__(
        self,
        path: str,
        dtype: Literal["bfloat16", "float16", "float32"],
        lora: str | None,
        *,
        shape: DataShape,
        cond: CondSpec | TextSpec,
    ):
        super().__init__()
        self.folder = published(path, [CONFIG, WEIGHTS], "model.path")
        self.config = read_record(self.folder / CONFIG)
        self.dtype, self.lora = getattr(torch, dtype), lora
        check_sizes(path, self.config, shape, cond)
        check_lora(lora)
        patch_size, width = self.config["patch_size"], inner_width(self.config)
        hw = (shape.height // patch_size, shape.width // patch_size)
        self.features = FeatureSpec(width, width, None, hw)
        if detect_fake_mode() is not None:
            self.counted = self.hooked.network

    @cached_property
    def hooked(self) -> Hooked:
        """Kept out of the module's own parts."""
        from diffusers import SD3Transformer2DModel

        if detect_fake_mode() is not None:  # where sizes are counted, and no weight is there
            network = SD3Transformer2DModel.from_config(self.config)
        else:
            network = SD3Transformer2DModel.from_pretrained(
                self.folder / "transformer", dtype=self.dtype, use_safetensors=True
            )
        for file in [] if self.lora is None else lora_files(Path(self.lora)):
            add_lora(network, file)
        return Hooked(network.eval().requires_grad_(False))

    def forward(
        self, x: Float[Tensor, "B C H W"], timestep: Float[Tensor, "B"], cond: Condition
    ) -> tuple[Tensor, Features]:
        hooked = self.hooked
        if next(hooked.network.parameters()).device != x.device:
            hooked.network.to(x.device)
        return hooked(x, timestep, cond)

    def get_extra_state(self) -> Tensor:
        """What a denoiser's folder holds in the place of weights: their fingerprint."""
        return torch.frombuffer(bytearray(self.fingerprint), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        if bytes(state.tolist()) != self.fingerprint:
            raise ValueError(f"model.path={self.folder} has other weights now than when this was trained")

    @cached_property
    def fingerprint(self) -> bytes:
        """Of the config, of every weights file its length and both ends, and of the LoRA."""
        lora = [] if self.lora is None else lora_files(Path(self.lora))
        return ends_sha256([*sorted(self.folder.glob(WEIGHTS)), *lora], self.config)


def usual_shape(path: str) -> DataShape:
    """Of the latents that a pipeline draws unless it is asked for others."""
    config = read_record(published(path, [CONFIG, WEIGHTS], "model.path") / CONFIG)
    return DataShape(config["in_channels"], config["sample_size"], config["sample_size"])


def inner_width(config: Mapping[str, Any]) -> int:
    return config["num_attention_heads"] * config["attention_head_dim"]


def check_sizes(path: str, config: dict[str, Any], shape: DataShape, cond: CondSpec | TextSpec) -> None:
    """Raises ValueError where the transformer is another kind of network, or reads something else."""
    if config.get("_class_name") != "SD3Transformer2DModel":
        raise ValueError(f"model.path={path} is a {config.get('_class_name')}, not an SD3Transformer2DModel")
    if not isinstance(cond, TextSpec):
        raise ValueError(f"model.path={path} reads captions, but data gives labels; use data=prompts")
    if shape.channels != config["in_channels"]:
        raise ValueError(
            f"model.path={path} works on latents of {config['in_channels']} channels, and the codec makes "
            f"{shape.channels}; use codec=sd3, which is its own"
        )
    seen, needed = (
        (cond.pooled_width, cond.token_width),
        (
            config["pooled_projection_dim"],
            config["joint_attention_dim"],
        ),
    )
    if seen != needed:
        raise ValueError(
            f"model.path={path} reads captions of widths {needed}, and codec/text answers in {seen}; "
            "use codec/text=sd3, which is its own"
        )
    patch_size, largest = config["patch_size"], config["pos_embed_max_size"]
    for size in (shape.height, shape.width):
        if size % patch_size or size // patch_size > largest:
            raise ValueError(
                f"data.size makes latents of {shape.height}x{shape.width}; model.path={path} takes multiples "
                f"of {patch_size} up to {largest * patch_size}"
            )


def check_lora(lora: str | None) -> None:
    if lora is None:
        return
    if not lora_files(Path(lora)):
        raise ValueError(
            f"model.lora={lora} has no .safetensors; accepted: such a file, or a folder with one"
        )
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ValueError(
            "model.lora needs peft, which is not installed here; pip install 'tpdm[lora]'"
        ) from None


def add_lora(network: Any, file: Path) -> None:
    """Folds low-rank changes, saved as a pipeline's, into the weights. ValueError where they do not fit."""
    where = {"weight_name": file.name, "use_safetensors": True, "local_files_only": True}
    try:
        network.load_lora_adapter(str(file.parent), prefix="transformer", **where)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"model.lora={file} does not fit the transformer ({error})") from None
    network.fuse_lora()
    network.unload_lora()


def lora_files(path: Path) -> list[Path]:
    """Those of safetensors alone: a pickle may run code."""
    found = [path] if path.is_file() else sorted(path.glob("*"))
    return [file for file in found if file.suffix == ".safetensors"]
