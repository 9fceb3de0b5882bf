"""From a resolved config to the parts of a run, and from a run's folder back to them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tpdm.codec.identity import IdentityCodec
from tpdm.denoiser import Denoiser, guided
from tpdm.registry import build
from tpdm.runtime.artifact import artifact_sha256, load_artifact, save_artifact
from tpdm.types import (
    Codec,
    Condition,
    CondSpec,
    DataShape,
    DenoiserLike,
    FeatureSpec,
    Scheduler,
    Text,
    TextSpec,
    TimePredictor,
)

Config = Mapping[str, Any]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DENOISER_KEYS = ("data", "codec", "model", "scheduler")  # what decides a denoiser's sizes and meaning
CODEC_HASH = "codec_sha256"  # beside them: a codec's config is where its weights lie, not what they are


def device_of(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch sees no CUDA device here; accepted: auto, cpu")
    return torch.device(name)


@dataclass(frozen=True)
class Assembly:
    """Everything about a run that its config decides and no training changes."""

    cfg: Config
    codec: Codec
    scheduler: Scheduler
    shape: DataShape  # of the state
    cond: CondSpec | TextSpec

    @classmethod
    def of(cls, cfg: Config) -> "Assembly":
        codec = build("codec", cfg["codec"])
        data = build("data", cfg["data"], split="train")
        if data.cond is None:
            raise ValueError(
                f"data={cfg['data']['name']} has captions, which no model here reads; use data with labels"
            )
        check_encoded(cfg["codec"], codec, data.encoded_by)
        shape = codec.shape_of(data.shape) if data.encoded_by is None else data.shape
        return cls(cfg, codec, build("scheduler", cfg["scheduler"]), shape, data.cond)

    def data(self, split: str, skipped: Path | None = None) -> Any:
        """`skipped` is the file that lists what could not be read."""
        return build("data", self.cfg["data"], split=split, skipped=skipped)

    def encoder(self, data: Any) -> Any:
        """What stands between these data and the state: nothing, where they are latents already."""
        return self.codec if data.encoded_by is None else IdentityCodec()

    def backbone(self) -> nn.Module:
        outputs = 2 if self.scheduler.predicts == "eps_and_variance" else 1
        return build("model", self.cfg["model"], shape=self.shape, cond=self.cond, outputs=outputs)

    def predictor(self, cfg: Config, features: FeatureSpec) -> nn.Module:
        return build("predictor", cfg, features=features)

    def null_cond(self) -> Condition:
        """The condition of nothing: the null label in every slot, or no caption."""
        if isinstance(self.cond, TextSpec):
            return Text.nothing(self.cond)
        return torch.full((1, self.cond.slots), self.cond.symbols)

    def guided(self, denoiser: DenoiserLike, guidance_scale: float, guidance: Config) -> DenoiserLike:
        """Under guidance, where the scale asks for it. ValueError where the null label was never trained."""
        self.check_guidance(guidance_scale)
        return guided(denoiser, guidance_scale, build("guidance", guidance), null_cond=self.null_cond())

    def check_guidance(self, guidance_scale: float) -> None:
        if guidance_scale != 1 and self.cfg["model"].get("label_dropout") == 0:
            raise ValueError(
                f"guidance_scale={guidance_scale} needs a null label, and model.label_dropout=0 trains none; "
                "use guidance_scale=1, or a model trained with label_dropout"
            )

    def save_denoiser(self, folder: Path, state: Mapping[str, Tensor], weights: str) -> None:
        config = {key: self.cfg[key] for key in DENOISER_KEYS}
        save_artifact(folder, {**config, CODEC_HASH: self.codec.sha256}, state, weights=weights)

    def save_predictor(
        self, folder: Path, cfg: Config, denoiser: Path, features: FeatureSpec, state: Mapping[str, Tensor]
    ) -> None:
        """`denoiser` is the folder of the one that it was trained on, whose features it reads."""
        config = {"predictor": cfg, "features": asdict(features), "denoiser": artifact_sha256(denoiser)}
        save_artifact(folder, config, state)


def check_encoded(cfg: Config, codec: Codec, made_by: Config | None) -> None:
    """Raises ValueError where latents were made by another codec than the one that is to decode them."""
    if made_by is not None and made_by["sha256"] != codec.sha256:
        raise ValueError(
            f"the latents of data.path were made by codec {dict(made_by)}, and this run has "
            f"{dict(cfg) | {'sha256': codec.sha256}}; use that codec, or prepare the data again"
        )


def load_denoiser(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Assembly, Denoiser]:
    """A denoiser from its own folder, frozen. ValueError where files are missing, cut short or changed."""
    config, state = load_artifact(folder)
    assembly = Assembly.of(config)
    check_codec(folder, config, assembly.codec)
    backbone = assembly.backbone()
    load_strictly(backbone, state, folder)
    backbone = backbone.to(device, dtype).eval().requires_grad_(False)
    return assembly, Denoiser(backbone, assembly.scheduler)


def check_codec(folder: Path, config: Config, codec: Codec) -> None:
    """Raises ValueError where the denoiser in `folder` was trained on latents of another codec."""
    made_by = config.get(CODEC_HASH, IdentityCodec.sha256)
    if made_by != codec.sha256:
        raise ValueError(
            f"{folder} was trained on latents of another codec, of sha256 {made_by[:12]}; "
            f"codec={config['codec']} has {codec.sha256[:12]}"
        )


def load_predictor(
    folder: Path, denoiser: Path, features: FeatureSpec, device: torch.device
) -> TimePredictor:
    """A predictor from its own folder, frozen. Raises ValueError where it was trained on another denoiser."""
    config, state = load_artifact(folder)
    if config.keys() != {"predictor", "features", "denoiser"}:
        raise ValueError(f"{folder} holds no predictor, but {', '.join(config)}")
    made_for = FeatureSpec(**{**config["features"], "hw": tuple(config["features"]["hw"])})
    if made_for != features:
        raise ValueError(
            f"{folder} is a predictor for other features: made for {made_for}, {denoiser} has {features}"
        )
    if config["denoiser"] != artifact_sha256(denoiser):
        raise ValueError(
            f"{folder} is a predictor for another denoiser's features, not for those of {denoiser}"
        )
    predictor = build("predictor", config["predictor"], features=features)
    load_strictly(predictor, state, folder)
    return predictor.to(device).eval().requires_grad_(False)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Loads weights whose names and sizes all fit; ValueError with the first that does not."""
    wanted = {name: tuple(x.shape) for name, x in module.state_dict().items()}
    given = {name: tuple(x.shape) for name, x in state.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            seen, made = given.get(name, "missing"), wanted.get(name, "none")
            raise ValueError(f"{folder}: weight {name} is {seen}, its config makes {made}")
    module.load_state_dict(dict(state))
