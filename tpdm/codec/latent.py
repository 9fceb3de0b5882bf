"""What codecs with a network have in common: unit-variance latents, made a few images at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.runtime.fingerprint import tensors_sha256
from tpdm.runtime.memory import memory_of
from tpdm.types import DataShape


@dataclass(frozen=True)
class LatentSizes:
    """Of images and latents, known before any weights are; `factor` pixels of a side are one of a latent."""

    channels: int | None  # of the images; None: not trained yet, so any
    latent_channels: int
    factor: int


class Scaled(nn.Module):
    """An AutoencoderKL of diffusers, with latents z = (mode - shift) * scale.

    The mode of the posterior, not a draw from it: a latent is then a function of its image, the same in every
    epoch, in a resumed run and in shards that were made beforehand. The draws would differ by far less than
    the latents of two images do.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, shift: Float[Tensor, "C"], scale: Float[Tensor, "C"]):
        super().__init__()
        self.network: Any = network
        self.register_buffer("shift", shift.float().clone())
        self.register_buffer("scale", scale.float().clone())

    def encode(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c h w"]:
        mode = self.network.encode(x.float()).latent_dist.mode()
        return (mode - self.shift[:, None, None]) * self.scale[:, None, None]

    def decode(self, z: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        return self.network.decode(z.float() / self.scale[:, None, None] + self.shift[:, None, None]).sample


class LatentCodec(ABC):
    """Frozen; its network is read when the first image comes, and follows the images to their device.

    `batch_size` images go through it at once, however many are asked for.
    """

    def __init__(self, name: str, batch_size: int):
        self.name, self.batch_size = name, batch_size

    @property
    @abstractmethod
    def sizes(self) -> LatentSizes: ...

    @abstractmethod
    def load(self) -> Scaled:
        """Raises ValueError where there are no weights, or others than are described."""

    @cached_property
    def scaled(self) -> Scaled:
        return self.load().eval().requires_grad_(False)

    @cached_property
    def sha256(self) -> str:
        """Of the weights, the scale and the sizes: latents of another hash mean something else."""
        return tensors_sha256(self.scaled.state_dict(), asdict(self.sizes))

    def encode(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c h w"]:
        return self.by_parts(self.scaled.to(x.device).encode, x)

    def decode(self, z: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        return self.by_parts(self.scaled.to(z.device).decode, z)

    @torch.no_grad()
    def by_parts(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with memory_of(min(len(x), self.batch_size), "images", "codec.batch_size"):
            return torch.cat([function(part) for part in x.split(self.batch_size)])

    def shape_of(self, pixels: DataShape) -> DataShape:
        """Size of the latents of images of this size. Raises ValueError where it cannot encode them."""
        channels, factor = self.sizes.channels, self.sizes.factor
        if channels not in (None, pixels.channels):
            raise ValueError(
                f"codec={self.name} was trained on images of {channels} channels, and these have "
                f"{pixels.channels}; use data.channels={channels}, or another codec"
            )
        if pixels.height % factor or pixels.width % factor:
            raise ValueError(
                f"codec={self.name} makes one latent of {factor}x{factor} pixels, which do not divide "
                f"images of {pixels.height}x{pixels.width}; use another size, or a codec with fewer levels"
            )
        return DataShape(self.sizes.latent_channels, pixels.height // factor, pixels.width // factor)
