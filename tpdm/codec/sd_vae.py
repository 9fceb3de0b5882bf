"""A published autoencoder, from a folder or from the hub."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tpdm.codec.latent import LatentCodec, LatentSizes, Scaled
from tpdm.registry import Positive, register
from tpdm.runtime.atomic import read_json
from tpdm.runtime.hub import downloaded

FILES = CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
KEYS = {"in_channels", "latent_channels", "block_out_channels", "scaling_factor"}


@register("codec", "sd_vae")
class SDVAE(LatentCodec):
    """`path` is a folder with config.json and safetensors, one with such a folder vae/, or an id of the hub.

    No pickle is read. Its latents are scaled by its own factors.
    """

    def __init__(self, path: str, batch_size: Positive[int]):
        super().__init__("sd_vae", batch_size)
        self.folder = find(path)

    @cached_property
    def config(self) -> dict[str, Any]:
        config = read_json(self.folder / CONFIG)
        if (
            not isinstance(config, dict)
            or config.get("_class_name") != "AutoencoderKL"
            or KEYS - config.keys()
        ):
            raise ValueError(f"{self.folder / CONFIG} is not the config.json of an AutoencoderKL")
        return config

    @property
    def sizes(self) -> LatentSizes:
        c = self.config
        return LatentSizes(c["in_channels"], c["latent_channels"], 2 ** (len(c["block_out_channels"]) - 1))

    def load(self) -> Scaled:
        from diffusers import AutoencoderKL  # slow to import

        try:
            network, seen = AutoencoderKL.from_pretrained(
                self.folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise ValueError(f"{self.folder} does not load as an AutoencoderKL ({error})") from None
        for what in ("missing_keys", "unexpected_keys"):
            if seen[what]:
                raise ValueError(f"{self.folder / WEIGHTS} has {what.replace('_', ' ')}: {min(seen[what])}")
        shift, scale = (
            torch.full((self.sizes.latent_channels,), float(factor))
            for factor in (self.config.get("shift_factor") or 0.0, self.config["scaling_factor"])
        )
        return Scaled(network, shift, scale)


def find(path: str) -> Path:
    """The folder with config and weights. Raises ValueError with what is missing, and how to get it."""
    given = Path(path).expanduser()
    root = (
        given
        if given.is_dir()
        else downloaded(path, [*FILES, *(f"vae/{name}" for name in FILES)], "codec.path")
    )
    pipeline = (root / "model_index.json").is_file() or (root / "vae").is_dir()
    inside = pipeline and not (root / CONFIG).is_file()
    folder = root / "vae" if inside else root
    for name in FILES:
        if not (folder / name).is_file():
            pickle = ", and a pickle beside it is not read" if any(folder.glob("*.bin")) else ""
            raise ValueError(
                f"codec.path={path} has no {name}{pickle}: {folder / name} is missing; "
                f"`hf download OWNER/NAME --local-dir FOLDER` gets {' and '.join(FILES)}"
            )
    return folder
