"""A published model in one file, opened to draw from it: which one it is, its path and its usual sampler."""

import argparse
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from tpdm.codec.identity import IdentityCodec
from tpdm.data.stored import parse_classes
from tpdm.denoiser import Denoiser, guided
from tpdm.model.diffit import DiffiT
from tpdm.model.dit import DiT
from tpdm.model.official import Official, OfficialDiffiT, OfficialDiT, OfficialTLD
from tpdm.model.tld import TLD
from tpdm.registry import build, facts, lookup
from tpdm.sampler.batched import in_batches
from tpdm.types import Codec, Condition, CondSpec, DataShape, TextSpec

Config = Mapping[str, Any]
BETAS = {"name": "ddpm", "beta_start": 1e-4, "beta_end": 2e-2, "num_train_timesteps": 1000}
STRAIGHT = {"name": "flow", "shift": 1.0, "predicts": "x0"}
RESPACED, UNIFORM = {"name": "respaced", "spacing": "even"}, {"name": "uniform"}
SAMPLER = {"name": "dpmpp_2m", "num_steps": 25}
EVERYWHERE = {"name": "constant", "channels": None}
FOREIGN = (LookupError, ValueError, TypeError, AttributeError)  # what a pickle's reader meets in other bytes
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, *FOREIGN)
AVERAGED, LAST = ("ema", "model_ema"), ("model",)  # where training files keep their weights


class Known(NamedTuple):
    """What a published model's weights do not say."""

    mark: str  # a tensor that no other model has
    model: Any
    names: type[Official]
    scheduler: Config
    grid: Config
    guidance_scale: float  # that its authors draw with
    heads: Mapping[int, int]  # by width


KNOWN = (
    Known(
        "blocks.0.adaLN_modulation.1.weight", DiT, OfficialDiT, BETAS, RESPACED, 4.0,
        {384: 6, 768: 12, 1024: 16, 1152: 16},
    ),
    Known("blocks.0.attn.qkv_temb.weight", DiffiT, OfficialDiffiT, BETAS, RESPACED, 4.4, {1152: 16}),
    Known(
        "denoiser_trans_block.pos_embed.weight", TLD, OfficialTLD, STRAIGHT, UNIFORM, 6.0,
        {width: width // 64 for width in range(64, 2049, 64)},
    ),
)  # fmt: skip


class Published:
    """A frozen model on its own path. Raises ValueError, naming the file, where it is none of the known."""

    def __init__(
        self, path: Path, device: torch.device, ema: bool, num_heads: int | None, codec: Config | None
    ):
        self.path, self.device = path, device
        try:
            state = weights_of(read(path), ema)
            known = recognised(state)
            sizes = known.names(state).sizes()
            heads = num_heads or heads_of(known, sizes["width"])
            backbone = known.model.from_official(state, heads)
        except ValueError as error:
            raise ValueError(f"checkpoint={path}: {error}") from None
        learned = sizes.get("outputs", 1) == 2
        predicts = {"predicts": "eps_and_variance" if learned else "eps"} if known.scheduler is BETAS else {}
        scheduler = build("scheduler", {**known.scheduler, **predicts})
        self.shape, self.cond = sizes["shape"], sizes["cond"]
        self.denoiser = Denoiser(backbone.to(device).requires_grad_(False), scheduler)
        self.cfg: dict[str, Any] = {
            "sampler": SAMPLER | {"grid": known.grid},
            "guidance": EVERYWHERE,
            "guidance_scale": known.guidance_scale,
        }
        self.codec: Codec = IdentityCodec() if codec is None else fitting(codec, self.shape)
        self.text = encoder_of(codec, self.cond)

    def picture(self, name: str) -> Path:
        """Where a picture goes that nobody named: the folder in which the command runs."""
        return Path(f"{self.path.stem}_{name}.png")

    def data(self) -> Any:
        return Classes(self.cond) if isinstance(self.cond, CondSpec) else Captions(self.cond)

    @property
    def reads_captions(self) -> bool:
        return isinstance(self.cond, TextSpec)

    def encoded(self, cond: Any) -> Condition:
        """Labels as they are; of captions the pooled embedding, which is all that TLD reads."""
        if isinstance(cond, Tensor):
            return cond
        if self.text is None:
            raise ValueError("prompt is given, but no encoder of it; add codec=sd_vae codec/text=clip")
        return self.text(cond).pooled.cpu()

    def sampler(self, cfg: Config, predictor: Path | None, **budget: Any) -> Any:
        if "predictor" in facts(lookup("sampler", cfg["name"])):
            raise ValueError(f"checkpoint={self.path} has no predictor; choose a fixed sampler: sampler=ddim")
        sampler = build("sampler", cfg, scheduler=self.denoiser.scheduler, **budget)
        sampler.check(self.denoiser.scheduler)
        return sampler

    def sample(
        self,
        sampler: Any,
        seeds: Sequence[int],
        cond: Condition,
        scale: float,
        guidance: Config,
        batch_size: int,
    ) -> tuple[Tensor, Tensor]:
        """(images, NFE) of each seed; latents, where there is no codec."""
        null = null_of(self.cond)
        denoiser = guided(self.denoiser, scale, build("guidance", guidance), null_cond=null)
        x0, nfe = in_batches(sampler, denoiser, seeds, cond, self.shape, batch_size, self.device)
        return self.codec.decode(x0).cpu(), nfe.cpu()


class Classes:
    """Labels of a model whose data are elsewhere."""

    def __init__(self, cond: CondSpec):
        self.cond = cond

    def batch(self, n: int, generator: Generator) -> tuple[None, Tensor]:
        return None, torch.randint(self.cond.symbols, (n, 1), generator=generator)

    def parse_labels(self, labels: Sequence[str | int]) -> Tensor:
        return parse_classes(labels, [str(k) for k in range(self.cond.symbols)])


class Captions:
    """No caption at all: what a model of captions draws where no prompt is given."""

    def __init__(self, cond: TextSpec):
        self.cond = cond

    def batch(self, n: int, generator: Generator) -> tuple[None, Tensor]:
        return None, null_of(self.cond).expand(n, -1)

    def parse_labels(self, labels: Sequence[str | int]) -> Tensor:
        raise ValueError("labels are given, but this checkpoint reads captions")


def read(path: Path) -> Any:
    """What the file holds: tensors in plain containers, from safetensors or a pickle that can run nothing."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    if path.suffix == ".safetensors":
        import safetensors.torch

        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"this is no whole file of safetensors ({error})") from None
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # DiT's training files keep their flags
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = next(
            (line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "it is no whole one"
        )
        raise ValueError(
            f"not loaded, as only a file of weights alone is ({reason[:120]}); save its state dict by itself"
        ) from None


def weights_of(content: Any, ema: bool) -> dict[str, Tensor]:
    """The state dict: the whole file, or the averaged or the last weights of a training file."""
    names = AVERAGED if ema else LAST
    inside = [content[name] for name in (*AVERAGED, *LAST) if isinstance(content, dict) and name in content]
    chosen = [content[name] for name in names if isinstance(content, dict) and name in content]
    if inside and not chosen:
        raise ValueError(f"it holds none of the weights {', '.join(names)}; try ema={str(not ema).lower()}")
    state = chosen[0] if chosen else content
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ValueError("it is no state dict of tensors")
    return state


def recognised(state: Mapping[str, Tensor]) -> Known:
    for known in KNOWN:
        if known.mark in state:
            return known
    marks = ", ".join(f"{known.model.__name__} ({known.mark})" for known in KNOWN)
    raise ValueError(
        f"its names are those of no model known here: {marks}; the first is {min(state, default='none')}"
    )


def heads_of(known: Known, width: int) -> int:
    if width not in known.heads:
        raise ValueError(f"no {known.model.__name__} of width {width} is published; give its num_heads=")
    return known.heads[width]


def fitting(cfg: Config, shape: DataShape) -> Codec:
    """The codec. Raises ValueError where its latents have other channels."""
    codec: Codec = build("codec", cfg)
    if isinstance(codec, IdentityCodec):  # the latents themselves are asked for
        return codec
    side = 64 * shape.height  # a multiple of whatever one latent is made of
    channels = codec.shape_of(DataShape(3, side, side)).channels
    if channels != shape.channels:
        raise ValueError(
            f"codec={cfg['name']} has latents of {channels} channels; the checkpoint's have {shape.channels}"
        )
    return codec


def encoder_of(codec: Config | None, cond: CondSpec | TextSpec) -> Any | None:
    """Of captions, where one is chosen. Raises ValueError where the model reads another width."""
    if codec is None or codec["text"]["name"] == "labels":
        return None
    if not isinstance(cond, TextSpec):
        raise ValueError(
            f"codec/text={codec['text']['name']} encodes captions, but this checkpoint reads labels"
        )
    text = build("codec/text", codec["text"], captions=tuple, vocabulary=None)
    if text.spec is None or text.spec.pooled_width != cond.pooled_width:
        seen = text.spec and text.spec.pooled_width
        raise ValueError(
            f"the checkpoint reads captions of {cond.pooled_width} numbers, codec.text gives {seen}"
        )
    return text


def null_of(cond: CondSpec | TextSpec) -> Tensor:
    if isinstance(cond, TextSpec):
        return torch.zeros(1, cond.pooled_width)
    return torch.full((1, cond.slots), cond.symbols)
