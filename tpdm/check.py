"""Whether the parts of a config fit each other, found out before a run exists."""

from pathlib import Path
from typing import Any

import torch

from tpdm.assembly import DENOISER_KEYS, Assembly, check_codec, check_denoiser
from tpdm.evaluation.digit_classifier import DigitClassifier, can_read
from tpdm.model.pretrained import SD3, usual_shape
from tpdm.predictor.budget import build_predictor, costs_of
from tpdm.registry import build, lookup
from tpdm.runtime.artifact import load_artifact
from tpdm.runtime.run import check_name, difference
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.types import Codec, CondSpec, FeatureSpec, Scheduler

Config = dict[str, Any]


def check(cfg: Config, ranks: int = 1) -> Assembly:
    """Builds every part, networks without memory behind them. ValueError where one does not fit."""
    check_name(cfg["run_name"])
    check_stage(cfg)
    if lookup("model", cfg["model"]["name"]) is SD3:
        usual_shape(cfg["model"]["path"])  # before its codec, which would tell of another key
    assembly = Assembly.of(cfg)
    check_images(cfg)
    if not cfg["dry_run"]:
        _ = assembly.codec.sha256  # reads the weights, of which each must be there
    with torch.device("meta"):
        features = check_shape(cfg, assembly)
        for predictor in (cfg["predictor"], cfg["baseline"]):
            if predictor is not None:
                build_predictor(predictor, features, costs_of(cfg["reward"]))
    assembly.check_guidance(cfg["guidance_scale"])
    if cfg["denoiser"] is not None and not has_adopted(cfg):
        check_adoptable(Path(cfg["denoiser"]), cfg, assembly.codec)
    check_sampler(cfg, assembly.scheduler)
    check_trainer("trainer", "denoiser", cfg, ranks)
    check_trainer("predictor_trainer", "predictor", cfg, ranks)
    for group in ("density", "optimizer", "parallel"):
        build(group, cfg[group])
    build("optimizer", cfg["predictor_optimizer"])
    check_precision(cfg)
    data = assembly.data("test")
    classifier = DigitClassifier() if can_read(data) else None
    labelled = isinstance(assembly.cond, CondSpec)
    for reward in ("reward", "held_out"):
        if cfg[reward] is not None:
            check_reward(reward, cfg, assembly, classifier if labelled else None)
    if not cfg["dry_run"]:  # which is content with sizes, where there are no samples
        check_evaluation(cfg, assembly, data, classifier)
    return assembly


def check_stage(cfg: Config) -> None:
    """Raises ValueError for a denoiser where a stage by itself makes no use of one."""
    if cfg["stage"] is not None and cfg["denoiser"] is not None:
        given = f"denoiser={cfg['denoiser']}"
        raise ValueError(f"{given} is for a whole run; leave it out, or leave out stage={cfg['stage']}")


def is_ready_made(cfg: Config) -> bool:
    """Whether the model says of itself that there is nothing to train: a published one, or a closed form."""
    model: Any = lookup("model", cfg["model"]["name"])
    return getattr(model, "ready_made", False)


def check_images(cfg: Config) -> None:
    """Raises ValueError where a denoiser is to be trained on prompts alone."""
    if cfg["data"]["name"] == "prompts" and cfg["denoiser"] is None and not is_ready_made(cfg):
        raise ValueError(
            "data=prompts has no images, so no denoiser can be trained on it; "
            "use model=sd3, denoiser=FOLDER, or data with images"
        )


def check_precision(cfg: Config) -> None:
    """Raises ValueError where copies of the weights would have to be cut like the weights."""
    if cfg["mixed_precision"] == "bf16_weights" and cfg["parallel"]["name"] == "fsdp":
        raise ValueError(
            "mixed_precision=bf16_weights keeps whole weights; use mixed_precision=bf16 with fsdp"
        )


def check_evaluation(cfg: Config, assembly: Assembly, data: Any, classifier: DigitClassifier | None) -> None:
    """Draws the samples that it will judge. Raises ValueError where there are none, or too few."""
    data.batch(1, torch.Generator())
    if cfg["evaluation"] is not None:
        build(
            "evaluation",
            cfg["evaluation"],
            data=data,
            codec=assembly.codec,
            shape=assembly.shape,
            classifier=classifier,
            condition=assembly.condition,
            device=torch.device("cpu"),
        )


def check_shape(cfg: Config, assembly: Assembly) -> FeatureSpec:
    """Raises ValueError where the model does not fit the latents, with the codec that makes them such."""
    try:
        backbone: Any = assembly.backbone()
    except ValueError as error:
        name = cfg["codec"]["name"]
        size = cfg["data"].get("size")
        of = "" if size is None else f" of data.size={size}"
        made = "" if name == "identity" else f"; codec={name} makes latents of that size{of}"
        raise ValueError(f"{error}{made}") from None
    features: FeatureSpec = backbone.features
    return features


def check_reward(key: str, cfg: Config, assembly: Assembly, classifier: DigitClassifier | None) -> None:
    """Raises ValueError where a reward lacks files, or reads what these data do not have."""
    reward = build("reward", cfg[key], at=key, classifier=classifier, device=torch.device("cpu"))
    if reward.uses_prompts and isinstance(assembly.cond, CondSpec):
        raise ValueError(
            f"{key}={cfg[key]['name']} reads prompts, and data={cfg['data']['name']} has labels; "
            "use data with captions, such as data=prompts"
        )


def has_adopted(cfg: Config) -> bool:
    """Whether an earlier start of this run made its own copy, so that the source may be gone."""
    return cfg["run_name"] is not None and (Path(cfg["runs"]) / cfg["run_name"] / "denoiser").exists()


def check_adoptable(folder: Path, cfg: Config, codec: Codec) -> None:
    """Raises ValueError where the denoiser in `folder` is not the one that the config describes."""
    if (folder / "denoiser").is_dir():
        raise ValueError(f"denoiser={folder} is a run; its denoiser is denoiser={folder / 'denoiser'}")
    config, _ = load_artifact(folder)
    check_denoiser(config, Path(f"denoiser={folder}"))
    check_codec(folder, {**config, "codec": cfg["codec"]}, codec)
    keys = [key for key in DENOISER_KEYS if key != "codec"]  # it may stand elsewhere now
    was, now = (
        {key: each[key] for key in keys} | {"codec.text": each["codec"]["text"]} for each in (config, cfg)
    )
    differs = difference(was, now)
    if differs is not None:
        key, before, here = differs
        raise ValueError(f"denoiser={folder} was trained with {key}={before}, this run has {key}={here}")


def check_sampler(cfg: Config, path: Scheduler) -> None:
    """Raises ValueError where the sampler cannot train a predictor, or is not for this path."""
    sampler = build("sampler", cfg["sampler"], scheduler=path)
    if isinstance(sampler, AdaptiveSampler):
        if cfg["predictor"] is not None and sampler.max_steps < 2:
            raise ValueError("sampler.max_steps=1 leaves a predictor nothing to choose; use 2 or more")
        return
    if cfg["predictor"] is not None:
        raise ValueError(
            f"sampler={cfg['sampler']['name']} asks no predictor, and none can be trained with it; "
            "use sampler=adaptive, or predictor=none"
        )
    sampler.check(path)


def check_trainer(key: str, trained: str, cfg: Config, ranks: int) -> None:
    """Raises ValueError where a trainer trains something else, or its numbers do not go together."""
    trainer: Any = lookup("trainer", cfg[key]["name"])
    if trainer.trains != trained:
        raise ValueError(
            f"{key}={cfg[key]['name']} trains a {trainer.trains}; accepted here: what trains a {trained}"
        )
    trainer.check(cfg[key], ranks)
