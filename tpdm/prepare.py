"""python -m tpdm.prepare data=NAME out=FOLDER [key=value | group=choice ...]

Encodes once what training would encode every epoch: shards of latents, for data=latents.
The same command again continues where it stopped; several processes share the shards.

Examples:
  python -m tpdm.prepare data=folder data.path=images.zip out=latents
  python -m tpdm.prepare data=webdataset data.path='/d/{00000..00127}.tar' data.labels=none out=latents
  python -m tpdm.prepare data=folder data.path=images precision=float16 shard_size=8192 out=latents
  accelerate launch --num_processes 4 -m tpdm.prepare data=folder data.path=images out=latents
  python -m tpdm.prepare -m part=0,1,2,3 parts=4 data=folder data.path=images out=latents
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from tpdm.cli import entry
from tpdm.registry import Component, NonNegative, Positive


class Settings(TypedDict):
    """What conf/prepare.yaml holds."""

    data: Component
    codec: Component
    out: str
    precision: Literal["uint8", "float16"]
    shard_size: Positive[int]
    batch_size: Positive[int]
    part: NonNegative[int] | None
    parts: Positive[int] | None
    seed: NonNegative[int]
    device: Literal["auto", "cpu", "cuda"]
    debug: bool
    launcher: Component


@entry("prepare", Settings)
def main(cfg: dict[str, Any]) -> None:
    from tpdm.preparing import prepare

    prepare(cfg)


if __name__ == "__main__":
    main()
