"""From a resolved config to the parts of a run, and from a run's folder back to them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tpdm.codec.identity import IdentityCodec
from tpdm.codec.tokens import Tokens
from tpdm.denoiser import Denoiser, guided
from tpdm.model.captioned import Captioned
from tpdm.predictor.budget import BUDGET, Budget, build_predictor, kept_budget
from tpdm.registry import build, lookup
from tpdm.runtime.artifact import artifact_sha256, load_artifact, read_artifact_config, save_artifact
from tpdm.runtime.fingerprint import tensors_sha256
from tpdm.types import (
    Codec,
    Condition,
    CondSpec,
    DataShape,
    DenoiserLike,
    FeatureSpec,
    Scheduler,
    Text,
    TextCodec,
    TextSpec,
    TimePredictor,
)

Config = Mapping[str, Any]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DENOISER_KEYS = ("data", "codec", "model", "scheduler")  # what decides a denoiser's sizes and meaning
FACTS = "facts"  # what a denoiser knows of its data, beside them
CODEC_HASH = "codec_sha256"  # beside them: a codec's config is where its weights lie, not what they are
DROPOUTS = {  # of a model: what it trains
    "label_dropout": "a null label",
    "caption_dropout": "a null caption",
    "condition_dropout": "a null condition",
}


def device_of(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch sees no CUDA device here; accepted: auto, cpu")
    return torch.device(name)


@dataclass(frozen=True)
class Facts:
    """What a denoiser knows of the data that it was trained on; kept with its weights."""

    shape: DataShape  # of the state
    cond: CondSpec | TextSpec
    vocabulary: list[str] | None  # of the text encoder that was trained with it

    @classmethod
    def read(cls, kept: Config) -> "Facts":
        """The inverse of `asdict`."""
        spec = CondSpec if "slots" in kept["cond"] else TextSpec
        return cls(DataShape(**kept["shape"]), spec(**kept["cond"]), kept["vocabulary"])


@dataclass(frozen=True)
class Assembly:
    """Everything about a run that its config decides and no training changes."""

    cfg: Config
    codec: Codec
    text: TextCodec
    scheduler: Scheduler
    shape: DataShape  # of the state
    cond: CondSpec | TextSpec

    @classmethod
    def of(cls, cfg: Config) -> "Assembly":
        """Looks at the data once: for their sizes and, where an encoder learns them, for their words."""
        data = build("data", cfg["data"], split="train")
        codec = build("codec", cfg["codec"])
        check_encoded(cfg["codec"], codec, data.encoded_by)
        check_text(cfg, data.cond)
        text = build("codec/text", cfg["codec"]["text"], captions=lambda: data.texts(), vocabulary=None)
        cond = text.spec if data.cond is None else data.cond
        check_captions(cfg["codec"], text, data.encoded_by)
        shape = codec.shape_of(data.shape) if data.encoded_by is None else data.shape
        return cls(cfg, codec, text, build("scheduler", cfg["scheduler"]), shape, cond)

    @classmethod
    def kept(cls, cfg: Config) -> "Assembly":
        """Of a denoiser's own config, without its data, which may be gone."""
        facts = Facts.read(cfg[FACTS])
        codec, scheduler = build("codec", cfg["codec"]), build("scheduler", cfg["scheduler"])
        text = build("codec/text", cfg["codec"]["text"], captions=tuple, vocabulary=facts.vocabulary)
        return cls(cfg, codec, text, scheduler, facts.shape, facts.cond)

    @property
    def facts(self) -> Facts:
        return Facts(self.shape, self.cond, self.text.vocabulary)

    def to(self, device: torch.device) -> "Assembly":
        """Moves the encoder of captions, where it has weights of its own."""
        if isinstance(self.text, nn.Module):
            self.text.to(device)
        return self

    def data(self, split: str, skipped: Path | None = None) -> Any:
        """`skipped` is the file that lists what could not be read."""
        return build("data", self.cfg["data"], split=split, skipped=skipped)

    def encoder(self, data: Any) -> Any:
        """What stands between these data and the state: nothing, where they are latents already."""
        return self.codec if data.encoded_by is None else IdentityCodec()

    def condition(self, cond: Any) -> Condition:
        """What a backbone is trained on: labels, captions encoded, or token ids that it encodes itself."""
        return cond if isinstance(cond, Text) else self.text(cond)

    def encoded(self, cond: Any, backbone: nn.Module) -> Condition:
        """What samplers and guidance carry: the same, with nothing left to encode."""
        read = self.condition(cond)
        return backbone.encode(read) if isinstance(backbone, Captioned) and isinstance(read, Tensor) else read

    @property
    def outputs(self) -> int:
        """Values that a backbone answers with for each channel."""
        return 2 if self.scheduler.predicts == "eps_and_variance" else 1

    def backbone(self) -> nn.Module:
        """With the text encoder inside that is trained with it, where there is one."""
        facts: dict[str, Any] = {"shape": self.shape, "cond": self.cond, "scheduler": self.scheduler}
        backbone = build("model", self.cfg["model"], **facts, outputs=self.outputs)
        return backbone if (encoder := self.text.network()) is None else Captioned(backbone, encoder)

    def null_cond(self) -> Condition:
        """The condition of nothing: the null label in every slot, or no caption."""
        if isinstance(self.cond, TextSpec):
            return self.text.null or Text.nothing(self.cond)
        return torch.full((1, self.cond.slots), self.cond.symbols)

    def blank(self) -> Condition:
        """One row of what `condition` gives, without a word in it."""
        if self.text.vocabulary is not None and isinstance(self.cond, TextSpec):
            return torch.zeros(1, self.cond.max_tokens, dtype=torch.long)
        return self.null_cond()

    def guided(self, denoiser: DenoiserLike, guidance_scale: float, guidance: Config) -> DenoiserLike:
        """Under guidance, where the scale asks for it. ValueError where the null label was never trained."""
        self.check_guidance(guidance_scale)
        return guided(denoiser, guidance_scale, build("guidance", guidance), null_cond=self.null_cond())

    def check_guidance(self, guidance_scale: float) -> None:
        for key, kind in DROPOUTS.items():
            if guidance_scale != 1 and self.cfg["model"].get(key) == 0:
                raise ValueError(
                    f"guidance_scale={guidance_scale} needs {kind}, and model.{key}=0 trains none; "
                    f"use guidance_scale=1, or a model trained with {key}"
                )

    def save_denoiser(self, folder: Path, state: Mapping[str, Tensor], weights: str) -> None:
        config = {key: self.cfg[key] for key in DENOISER_KEYS}
        config |= {CODEC_HASH: self.codec.sha256, FACTS: asdict(self.facts)}
        save_artifact(folder, config, state, weights=weights)

    def save_predictor(
        self,
        folder: Path,
        cfg: Config,
        denoiser: Path,
        features: FeatureSpec,
        state: Mapping[str, Tensor],
        budget: Budget | None = None,
    ) -> None:
        """`denoiser` is the folder of the one that it was trained on, whose features it reads."""
        config = {"predictor": cfg, "features": asdict(features), "denoiser": artifact_sha256(denoiser)}
        if budget is not None:
            config |= {BUDGET: asdict(budget)}
        save_artifact(folder, config, state)


def check_encoded(cfg: Config, codec: Codec, made_by: Config | None) -> None:
    """Raises ValueError where latents were made by another codec than the one that is to decode them."""
    if made_by is not None and made_by["sha256"] != codec.sha256:
        raise ValueError(
            f"the latents of data.path were made by codec {dict(made_by)}, and this run has "
            f"{dict(cfg) | {'sha256': codec.sha256}}; use that codec, or prepare the data again"
        )


def check_text(cfg: Config, cond: CondSpec | TextSpec | None) -> None:
    """Raises ValueError where labels meet an encoder of captions, or captions none."""
    data, codec = cfg["data"]["name"], cfg["codec"]["text"]["name"]
    component: Any = lookup("codec/text", codec)
    if cond is None and component.reads == "labels":
        raise ValueError(
            f"data={data} has captions, which codec/text={codec} does not encode; "
            "use codec/text=transformer_text, clip or t5, or data with labels"
        )
    if isinstance(cond, CondSpec) and component.reads == "captions":
        raise ValueError(
            f"data={data} has labels, and codec/text={codec} encodes captions; use codec/text=labels"
        )


def check_captions(cfg: Config, text: Any, made_by: Config | None) -> None:
    """Raises ValueError where captions were encoded by another encoder than this run has."""
    if made_by is None or made_by["text_sha256"] is None:
        return
    other = cfg["text"]["name"] != made_by["text"]["name"]
    if other or made_by["text_sha256"] != text_sha256(text):
        raise ValueError(
            f"the captions of data.path were encoded by codec/text={made_by['text']}, of sha256 "
            f"{made_by['text_sha256'][:12]}, and this run has {dict(cfg['text'])}; "
            "use that encoder, or prepare the data again"
        )


def text_sha256(text: Any) -> str:
    """Which encoder of captions this is, its tokenizers among it; others' answers mean something else."""
    tokenizers = [x.tokenizer.to_str() for x in vars(text).values() if isinstance(x, Tokens)]
    return tensors_sha256(text.state_dict(), {**asdict(text.spec), "tokenizers": tokenizers})


def load_denoiser(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Assembly, Denoiser]:
    """A denoiser from its own folder, frozen. ValueError where files are missing, cut short or changed."""
    config, state = load_artifact(folder)
    check_denoiser(config, folder)
    assembly = Assembly.kept(config).to(device)
    check_codec(folder, config, assembly.codec)
    backbone = assembly.backbone()
    load_strictly(backbone, state, folder)
    backbone = backbone.to(device, dtype).eval().requires_grad_(False)
    return assembly, Denoiser(backbone, assembly.scheduler)


def check_codec(folder: Path, config: Config, codec: Codec) -> None:
    """Raises ValueError where the denoiser in `folder` was trained on latents of another codec."""
    made_by = config[CODEC_HASH]
    if made_by != codec.sha256:
        raise ValueError(
            f"{folder} was trained on latents of another codec, of sha256 {made_by[:12]}; "
            f"codec={config['codec']} has {codec.sha256[:12]}"
        )


def check_denoiser(config: Config, folder: Path) -> None:
    """Raises ValueError where this is the config of something else."""
    if config.keys() != {*DENOISER_KEYS, CODEC_HASH, FACTS}:
        raise ValueError(f"{folder} holds no denoiser, but {', '.join(config)}")


def described_predictor(folder: Path) -> tuple[Config, FeatureSpec]:
    """(its config, the features that it was made for). ValueError where the folder holds something else."""
    config = read_artifact_config(folder)
    if config.keys() - {BUDGET} != {"predictor", "features", "denoiser"}:
        raise ValueError(f"{folder} holds no predictor, but {', '.join(config)}")
    return config, FeatureSpec(**{**config["features"], "hw": tuple(config["features"]["hw"])})


def open_predictor(folder: Path) -> nn.Module:
    """A predictor from its own folder, whatever denoiser it was trained on."""
    config, made_for = described_predictor(folder)
    costs = None if (budget := kept_budget(config)) is None else budget.costs
    predictor = build_predictor(config["predictor"], made_for, costs)
    load_strictly(predictor, load_artifact(folder)[1], folder)
    return predictor


def load_predictor(
    folder: Path, denoiser: Path, features: FeatureSpec, device: torch.device
) -> TimePredictor:
    """A predictor from its own folder, frozen. Raises ValueError where it was trained on another denoiser."""
    config, made_for = described_predictor(folder)
    if made_for != features:
        raise ValueError(
            f"{folder} is a predictor for other features: made for {made_for}, {denoiser} has {features}"
        )
    if config["denoiser"] != artifact_sha256(denoiser):
        raise ValueError(
            f"{folder} is a predictor for another denoiser's features, not for those of {denoiser}"
        )
    return open_predictor(folder).to(device).eval().requires_grad_(False)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Loads weights whose names and sizes all fit; ValueError with the first that does not."""
    wanted = {name: tuple(x.shape) for name, x in module.state_dict().items()}
    given = {name: tuple(x.shape) for name, x in state.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            seen, made = given.get(name, "missing"), wanted.get(name, "none")
            raise ValueError(f"{folder}: weight {name} is {seen}, its config makes {made}")
    module.load_state_dict(dict(state))
