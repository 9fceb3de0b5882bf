"""A variational autoencoder that is trained here: diffusers' AutoencoderKL (Rombach et al. 2022)."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tpdm.codec.latent import LatentCodec, LatentSizes, Scaled
from tpdm.registry import Positive, register
from tpdm.runtime.artifact import load_artifact, read_artifact_config, save_artifact

HOW = "python -m tpdm.train stage=codec codec=kl_vae data=... leaves one in runs/NAME/codec"


@register("codec", "kl_vae")
class KLVAE(LatentCodec):
    """`path` is the folder that `stage=codec` leaves; without one there are sizes and no weights.

    Each of `multipliers`, of `base_width`, is a level, and each level but the last halves the image.
    """

    def __init__(
        self,
        path: str | None,
        latent_channels: Positive[int],
        base_width: Positive[int],
        multipliers: tuple[Positive[int], ...],
        depth: Positive[int],
        batch_size: Positive[int],
    ):
        super().__init__("kl_vae", batch_size)
        if not multipliers:
            raise ValueError("codec.multipliers=[] leaves no level; give one number for each")
        self.path = path
        self.choices: dict[str, Any] = {
            "latent_channels": latent_channels,
            "base_width": base_width,
            "multipliers": list(multipliers),
            "depth": depth,
        }
        if path is not None:
            self.channels = self.check(Path(path))

    @property
    def sizes(self) -> LatentSizes:
        channels = None if self.path is None else self.channels
        return LatentSizes(
            channels, self.choices["latent_channels"], 2 ** (len(self.choices["multipliers"]) - 1)
        )

    def check(self, folder: Path) -> int:
        """Channels of its images. Raises ValueError where the codec in `folder` is not the one described."""
        if not folder.is_dir():
            raise ValueError(f"codec.path={folder} does not exist; {HOW}")
        config = read_artifact_config(folder)
        if config.keys() != {"channels", *self.choices}:
            raise ValueError(f"codec.path={folder} holds no codec, but {', '.join(config)}; {HOW}")
        for key, wanted in self.choices.items():
            if config[key] != wanted:
                raise ValueError(
                    f"codec.path={folder} was trained with codec.{key}={config[key]}, this run has {wanted}"
                )
        return config["channels"]

    def network(self, channels: int) -> nn.Module:
        """With random weights, for images of so many channels."""
        from diffusers import AutoencoderKL  # slow to import

        c = self.choices
        levels = len(c["multipliers"])
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            latent_channels=c["latent_channels"],
            block_out_channels=tuple(c["base_width"] * factor for factor in c["multipliers"]),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=c["depth"],
            norm_num_groups=math.gcd(32, c["base_width"]),
        )

    def load(self) -> Scaled:
        if self.path is None:
            raise ValueError(f"codec.path is missing, and codec=kl_vae has no weights without it; {HOW}")
        _, state = load_artifact(Path(self.path))
        blank = torch.zeros(self.choices["latent_channels"])
        scaled = Scaled(self.network(self.channels), blank, blank)
        scaled.load_state_dict(state)
        return scaled

    def save(self, folder: Path, scaled: Scaled, channels: int) -> None:
        """What `path` may name afterwards."""
        save_artifact(folder, {"channels": channels, **self.choices}, scaled.state_dict(), weights="ema")
