"""python -m tpdm.train [key=value | group=choice ...]

Trains a denoiser, freezes it, trains its Time Predictor, and prints what the predictor gained.
The same command with the same run_name goes on where it stopped.

Examples:
  python -m tpdm.train model=dit predictor=vit
  python -m tpdm.train model/block=cross_attention scheduler=ddpm run_name=blocks
  python -m tpdm.train reward/cost=drawn predictor.init_logits=[0.5,0.4]
  python -m tpdm.train sampler/step=ddim trainer.max_steps=2000
  python -m tpdm.train stage=codec codec=kl_vae_small
  python -m tpdm.train codec=kl_vae_small codec.path=runs/NAME/codec model.patch_size=2
  python -m tpdm.train stage=lr_find
  python -m tpdm.train model=dit_s2 dry_run=true
  python -m tpdm.train -m seed=0,1,2 reward/cost=discounted
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component, NonNegative, Positive, Range


class LrFind(TypedDict):
    """The rates that stage=lr_find goes through, and in how many steps."""

    lr_min: Positive[float]
    lr_max: Positive[float]
    num_steps: Annotated[int, Range(min=20)]


class Settings(TypedDict):
    """What conf/train.yaml holds."""

    run_name: str | None
    runs: str
    denoiser: str | None
    denoisers: str | None
    stage: Literal["codec", "lr_find"] | None
    lr_find: LrFind
    seed: Annotated[int, Range(min=0, max=2**63 - 1)]
    device: Literal["auto", "cpu", "cuda"]
    dry_run: bool
    debug: bool
    mixed_precision: Literal["no", "bf16", "bf16_weights", "fp16"]
    inference_dtype: Literal["float32", "bfloat16", "float16"]
    guidance_scale: NonNegative[float]
    baseline_steps: Positive[int]
    calibration_samples: Positive[int]
    model: Component
    scheduler: Component
    density: Component
    guidance: Component
    predictor: Component | None
    sampler: Component
    reward: Component
    held_out: Component | None
    data: Component
    codec: Component
    trainer: Component
    optimizer: Component
    parallel: Component
    predictor_trainer: Component
    predictor_optimizer: Component
    codec_trainer: Component
    codec_optimizer: Component
    baseline: Component | None
    evaluation: Component | None
    launcher: Component


@entry("train", Settings)
def main(cfg: dict[str, Any]) -> None:
    if cfg["dry_run"]:
        from tpdm.dry_run import dry_run

        dry_run(cfg)
    elif cfg["stage"] == "codec":
        from tpdm.codec_training import train_codec

        train_codec(cfg)
    elif cfg["stage"] == "lr_find":
        from tpdm.stages import find_lr

        find_lr(cfg)
    else:
        from tpdm.stages import train

        train(cfg)


if __name__ == "__main__":
    main()
