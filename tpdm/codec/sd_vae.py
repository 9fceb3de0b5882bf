"""A published autoencoder, from a folder or from the local cache of the Hugging Face hub."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tpdm.codec.latent import LatentCodec, LatentSizes, Scaled
from tpdm.registry import Positive, register
from tpdm.runtime.atomic import read_json

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
KEYS = {"in_channels", "latent_channels", "block_out_channels", "scaling_factor"}


@register("codec", "sd_vae")
class SDVAE(LatentCodec):
    """`path` is a folder with config.json and safetensors, one with such a folder vae/, or an id of the hub.

    Nothing is downloaded and no pickle is read. Its latents are scaled by its own factors.
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
                torch_dtype=torch.float32,
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
    given = Path(path)
    root = given if given.exists() else cached(path)
    if root is None:
        how = f"get it by `hf download {path}`" if is_id(path) else "give a folder, or an id of the hub"
        raise ValueError(f"codec.path={path} is neither a folder nor in the hub's local cache; {how}")
    folder = next((place for place in (root, root / "vae") if (place / CONFIG).is_file()), root)
    if folder is root and (root / "model_index.json").is_file():
        folder = root / "vae"
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickle = ", and the pickle beside it is not read" if any(folder.glob("*.bin")) else ""
            raise ValueError(
                f"{folder / name} is missing{pickle}; get it by `hf download REPOSITORY --local-dir {root}`"
            )
    return folder


def is_id(path: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None


def cached(path: str) -> Path | None:
    """Where the hub's client keeps a repository that was downloaded before; no network is asked."""
    if not is_id(path):
        return None
    from huggingface_hub import snapshot_download  # slow to import
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
