"""python -m tpdm.benchmark [suite=NAME] [key=value | group=choice ...]

Times this package against others' code and against its own networks, in one process by turns.
It prints ratios: seconds are a machine's, ratios are the code's.

Suites:
  sd3      an update on Stable Diffusion 3's transformer, against its rows alone and a plain loop; memory
  rollout  drawing and replaying trajectories, against a plain loop
  data     latents read and images prepared, against tarfile, training, memory and the codec alone
  train    one optimiser step of a DiT, against diffusers' DiT and the machine's matrix products

Examples:
  python -m tpdm.benchmark suite=rollout
  python -m tpdm.benchmark suite=rollout inference_dtype=bfloat16 out=rollout.json
  python -m tpdm.benchmark suite=rollout run=runs/NAME
  python -m tpdm.benchmark suite=train suite.repeats=11
  python -m tpdm.benchmark suite=sd3 device=cpu
  python -m tpdm.benchmark suite=sd3 predictor=cnn predictor_trainer.replay_rows=8
  python -m tpdm.benchmark suite=train model=dit_xl2 device=cuda suite.compile_official=true
  python -m tpdm.benchmark suite=data suite.repeats=7
  python -m tpdm.benchmark suite.batch_size=64 suite.repeats=11 scheduler=ddpm
  python -m tpdm.benchmark model=dit_s4 predictor=vit_small device=cuda
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component, NonNegative


class Settings(TypedDict):
    """What conf/benchmark.yaml holds."""

    suite: Component
    run: str | None
    seed: NonNegative[int]
    device: Literal["auto", "cpu", "cuda"]
    inference_dtype: Literal["float32", "bfloat16", "float16"]
    out: str | None
    debug: bool
    model: Component
    scheduler: Component
    predictor: Component | None
    sampler: Component
    data: Component
    codec: Component
    launcher: Component
    optimizer: Component
    predictor_trainer: Component | None


@entry("benchmark", Settings)
def main(cfg: dict[str, Any]) -> None:
    from tpdm.measuring import measure

    measure(cfg)


if __name__ == "__main__":
    main()
