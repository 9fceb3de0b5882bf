"""Trains a denoiser: draw data, noise and a time; regress; average the weights."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from tpdm.data.loader import Data, Loader
from tpdm.denoiser import Denoiser
from tpdm.nn.blocks import blocks, compile_blocks, recompute
from tpdm.optimizer import Optimizer
from tpdm.parallel import Parallel
from tpdm.registry import Fraction, Positive, register
from tpdm.runtime.ema import EMA
from tpdm.runtime.memory import memory_for
from tpdm.runtime.sharding import whole
from tpdm.trainer.stage import Stage, Stateful
from tpdm.trainer.weights import weights_of
from tpdm.types import Codec, Condition, Scheduler


@register("trainer", "denoiser")
class DenoiserTrainer:
    """`batch_size` counts the samples of one update over all processes and `accumulate` parts.

    `condition` makes of a batch's labels or captions what the backbone reads.
    `preview(step, averaged weights)` draws a grid every `preview_every` steps. Raises ValueError where the
    batch does not divide.
    """

    trains = "denoiser"

    def __init__(
        self,
        max_steps: Positive[int],
        batch_size: Positive[int],
        accumulate: Positive[int],
        clip_norm: Positive[float],
        ema_decay: Fraction[float],
        gradient_checkpointing: bool,
        compile: bool,  # noqa: A002  the name that users know
        report_every: Positive[int],
        preview_every: Positive[int],
        save_every: Positive[int],
        *,
        backbone: nn.Module,
        scheduler: Scheduler,
        data: Data,
        codec: Codec,
        condition: Callable[[Any], Condition],
        density: Callable[[int, torch.Generator], Tensor],
        optimizer: Callable[..., Optimizer],
        parallel: Parallel,
        stage: Stage,
        preview: Callable[[int, dict[str, Tensor]], Image],
    ):
        self.accelerator = stage.accelerator
        ranks = self.accelerator.num_processes
        check_batch(batch_size, accumulate, ranks)
        self.memory = memory_told(batch_size // (ranks * accumulate), batch_size, accumulate)
        self.max_steps, self.accumulate, self.clip_norm = max_steps, accumulate, clip_norm
        self.report_every, self.preview_every, self.save_every = report_every, preview_every, save_every
        self.scheduler, self.codec, self.condition, self.density = scheduler, codec, condition, density
        self.stage, self.preview = stage, preview

        self.backbone = backbone.to(self.accelerator.device)
        self.weights = weights_of(self.backbone, stage.mixed_precision)
        running = self.weights.running
        if gradient_checkpointing:
            for block in blocks(running):
                recompute(block)
        if compile:
            compile_blocks(running)
        self.network = parallel(running, self.accelerator)  # may cut the weights, so the rest follows
        self.denoiser = Denoiser(self.network, scheduler)
        self.ema = EMA(self.backbone, ema_decay)
        self.optimizer, self.lr = optimizer(self.backbone.parameters(), max_steps)
        self.scaler = stage.scaler()
        self.batches = Loader(
            data,
            batch_size // (ranks * accumulate),
            stage.seed,
            rank=self.accelerator.process_index,
            world_size=ranks,
        )

    @staticmethod
    def check(choices: Mapping[str, Any], ranks: int) -> None:
        """Refuses, before a run exists, what the constructor would refuse."""
        check_batch(choices["batch_size"], choices["accumulate"], ranks)

    def fit(self) -> dict[str, Tensor]:
        """Trains to `max_steps`, from the newest checkpoint if there is one; returns the averaged weights."""
        parts: dict[str, Stateful] = {
            "backbone": self.backbone,
            "ema": self.ema,
            "optimizer": self.optimizer,
            "lr": self.lr,
            "batches": self.batches,
        }
        if self.scaler.is_enabled():
            parts["scaler"] = self.scaler
        self.backbone.train()
        for step in self.stage.steps(self.max_steps, self.save_every, parts):
            loss, norm = self.update(step)
            self.ema.update(self.backbone, step)
            self.report(step, loss, norm)
        return whole(self.ema.state_dict())

    def update(self, step: int) -> tuple[Tensor, Tensor]:
        """One optimiser step; the mean loss of its parts, and the gradient's norm before clipping."""
        loss, norm = self.differentiate(step)
        self.stage.check_finite(loss, step)
        self.stage.check_overflow(norm, step, self.scaler)
        self.descend()
        return loss, norm

    def differentiate(self, step: int) -> tuple[Tensor, Tensor]:
        """The gradients of one update, clipped; its mean loss, and their norm before."""
        generator, losses = self.stage.generator(step), []
        self.weights.follow()
        for part in range(self.accumulate):
            last = part + 1 == self.accumulate  # processes exchange the gradients of all parts at once
            alone = not last and not self.weights.collects_parts
            apart = self.accelerator.no_sync(self.network) if alone else nullcontext()
            with apart, memory_for(*self.memory):
                loss = self.loss(*next(self.batches), generator)
                self.scaler.scale(loss / self.accumulate).backward()
            self.weights.collect()
            losses.append(loss.detach())
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.backbone.parameters(), self.clip_norm)
        return torch.stack(losses).mean(), whole(norm)

    def descend(self) -> None:
        """Takes the step that the gradients ask for."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.lr.step()

    def loss(self, x0: Tensor, cond: Any, generator: torch.Generator) -> Tensor:
        x0 = self.codec.encode(x0.to(self.accelerator.device))
        t = self.scheduler.warp(self.density(len(x0), generator))
        eps = torch.randn(x0.shape, generator=generator)
        x0, eps, t = (x.to(self.accelerator.device) for x in (x0, eps, t))
        read = self.condition(cond).to(self.accelerator.device)
        with self.stage.autocast():
            return self.denoiser.loss(x0, eps, t, read).mean()

    def report(self, step: int, loss: Tensor, norm: Tensor) -> None:
        values = {}
        if step % self.report_every == 0 or step + 1 == self.max_steps:
            values = {"loss": loss.item(), "grad_norm": norm.item(), "lr": float(self.lr.get_last_lr()[0])}
        self.stage.report(step, values, {"loss": loss.item()})
        if (step + 1) % self.preview_every == 0 or step + 1 == self.max_steps:
            averaged = whole(self.ema.state_dict())
            if self.accelerator.is_main_process:
                self.stage.image(step, "samples", self.preview(step, averaged))


def memory_told(rows: int, batch_size: int, accumulate: int) -> tuple[str, str]:
    """What a part of an update keeps in memory, and what halves that."""
    sizes = f"trainer.batch_size={batch_size} over trainer.accumulate={accumulate}"
    return f"{rows} samples ({sizes})", f"trainer.accumulate={2 * accumulate} halves them"


def check_batch(batch_size: int, accumulate: int, ranks: int) -> None:
    if batch_size % (ranks * accumulate):
        raise ValueError(
            f"trainer.batch_size={batch_size} does not divide over {ranks} processes x "
            f"trainer.accumulate={accumulate}; use a multiple of {ranks * accumulate}"
        )
