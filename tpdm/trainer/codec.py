"""Trains an autoencoder: encode, draw a latent, decode; compare the images, hold the latents near N(0, 1)."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tpdm.data.loader import Data, Loader
from tpdm.optimizer import Optimizer
from tpdm.registry import Fraction, NonNegative, Positive, register
from tpdm.runtime.ema import EMA
from tpdm.runtime.memory import memory_of
from tpdm.trainer.stage import Stage, Stateful

DISTANCES = {"l1": F.l1_loss, "mse": F.mse_loss}


class Trained(nn.Module):
    """Both halves in one pass, so that several processes can sum the gradients of both."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network: Any = network

    def forward(self, x: Float[Tensor, "B C H W"], eps: Tensor) -> tuple[Tensor, Tensor]:
        """(reconstruction, KL of the posterior to N(0, 1) per number of a latent) (Kingma & Welling 2014)."""
        posterior = self.network.encode(x).latent_dist
        z = posterior.mean + posterior.std * eps
        return self.network.decode(z).sample, posterior.kl().mean() / z[0].numel()


@register("trainer", "codec")
class CodecTrainer:
    """`batch_size` counts the images of one update over all processes.

    `preview(step, averaged weights)` answers with a picture and the PSNR, every `preview_every` steps. The
    stage reads `held_out` and `measured`. Raises ValueError where the batch does not divide.
    """

    trains = "codec"

    def __init__(
        self,
        max_steps: Positive[int],
        batch_size: Positive[int],
        distance: Literal["l1", "mse"],
        kl: NonNegative[float],
        clip_norm: Positive[float],
        ema_decay: Fraction[float],
        held_out: Positive[int],
        measured: Positive[int],
        report_every: Positive[int],
        preview_every: Positive[int],
        save_every: Positive[int],
        *,
        network: nn.Module,
        latent: tuple[int, ...],
        data: Data,
        optimizer: Callable[..., Optimizer],
        stage: Stage,
        preview: Callable[[int, dict[str, Tensor]], tuple[Image, float]],
    ):
        """`latent` is the shape of one."""
        self.accelerator = stage.accelerator
        ranks = self.accelerator.num_processes
        check_batch(batch_size, ranks)
        self.batch_size = batch_size
        self.max_steps, self.kl, self.clip_norm = max_steps, kl, clip_norm
        self.distance = DISTANCES[distance]
        self.report_every, self.preview_every, self.save_every = report_every, preview_every, save_every
        self.latent, self.stage, self.preview = latent, stage, preview
        self.shown: dict[str, float] = {}  # the newest PSNR

        self.network = network.to(self.accelerator.device)
        self.ema = EMA(self.network, ema_decay)
        self.optimizer, self.lr = optimizer(self.network.parameters(), max_steps)
        self.scaler = stage.scaler()
        self.trained = self.accelerator.prepare_model(Trained(self.network))
        rank = self.accelerator.process_index
        self.batches = Loader(data, batch_size // ranks, stage.seed, rank=rank, world_size=ranks)

    @staticmethod
    def check(choices: Mapping[str, Any], ranks: int) -> None:
        """Refuses, before a run exists, what the constructor would refuse."""
        check_batch(choices["batch_size"], ranks)

    def fit(self) -> dict[str, Tensor]:
        """Trains to `max_steps`, from the newest checkpoint if there is one; returns the averaged weights."""
        parts: dict[str, Stateful] = {
            "network": self.network,
            "ema": self.ema,
            "optimizer": self.optimizer,
            "lr": self.lr,
            "batches": self.batches,
        }
        if self.scaler.is_enabled():
            parts["scaler"] = self.scaler
        self.network.train()
        for step in self.stage.steps(self.max_steps, self.save_every, parts):
            with memory_of(self.batch_size, "images", "codec_trainer.batch_size"):
                seen = self.update(step)
            self.ema.update(self.network, step)
            self.report(step, seen)
        return self.ema.state_dict()

    def update(self, step: int) -> dict[str, Tensor]:
        """One optimiser step; what was seen on the way."""
        x, _ = next(self.batches)
        eps = torch.randn(len(x), *self.latent, generator=self.stage.generator(step))
        x, eps = x.to(self.accelerator.device), eps.to(self.accelerator.device)
        with self.stage.autocast():
            reconstruction, kl = self.trained(x, eps)
        distance = self.distance(reconstruction.float(), x)
        loss = distance + self.kl * kl.float()
        self.stage.check_finite(loss, step)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.stage.check_overflow(norm, step, self.scaler)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.lr.step()
        return {"loss": loss.detach(), "distance": distance.detach(), "kl": kl.detach(), "grad_norm": norm}

    def report(self, step: int, seen: dict[str, Tensor]) -> None:
        last = step + 1 == self.max_steps
        values = {}
        if step % self.report_every == 0 or last:
            values = {name: x.item() for name, x in seen.items()} | {"lr": float(self.lr.get_last_lr()[0])}
        if ((step + 1) % self.preview_every == 0 or last) and self.accelerator.is_main_process:
            image, psnr = self.preview(step, self.ema.state_dict())
            self.stage.image(step, "reconstructions", image)
            self.shown = {"psnr": psnr}
            values["psnr"] = psnr
        self.stage.report(step, values, {"loss": seen["loss"].item()} | self.shown)


def check_batch(batch_size: int, ranks: int) -> None:
    if batch_size % ranks:
        raise ValueError(
            f"codec_trainer.batch_size={batch_size} does not divide over {ranks} processes; use a multiple"
        )
