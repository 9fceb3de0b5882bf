"""`stage=codec`: a codec is trained, and nothing else."""

from typing import Any

Config = dict[str, Any]


def train_codec(cfg: Config) -> None:
    raise ValueError(f"codec={cfg['codec']['name']} has nothing to train")
