"""One optimiser step of a DiT, against diffusers' DiT of its size and the machine's matrix products."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from tpdm.nn.blocks import blocks, compile_blocks
from tpdm.registry import Positive, register
from tpdm.runtime.size import multiply_adds
from tpdm.suite.official import Forward, official_dit
from tpdm.suite.ratio import Measured, Ratio
from tpdm.suite.rollout import stopped
from tpdm.trainer.weights import OwnWeights, Weights, weights_of
from tpdm.types import DataShape

Precision = Literal["no", "bf16", "bf16_weights"]
GOALS = {"no": 0.90, "bf16": 0.65, "bf16_weights": 0.65}  # of diffusers' time, on a CPU
PASSES = 3  # of equal cost: forward, and backward to the inputs and to the weights
LARGE = ((1024, 1024, 1024), (4096, 512, 1024), (4096, 4096, 4096))  # products that show a machine's rate


class Contestant(NamedTuple):
    """A network in training."""

    forward: Forward
    weights: Weights
    optimizer: torch.optim.Optimizer
    autocast: bool

    def step(self, x: Tensor, timestep: Tensor, cond: Tensor, target: Tensor) -> None:
        """Forward, backward, update."""
        self.weights.follow()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            loss = mse_loss(self.forward(x, timestep, cond).float(), target)
        loss.backward()
        self.weights.collect()
        self.optimizer.step()
        self.optimizer.zero_grad()


@register("suite", "train")
class TrainSuite:
    """Every contestant takes its turn in every repeat, on the same batch, with AdamW.

    diffusers' runs as its examples do: under autocast for bfloat16, with torch's default AdamW. Raises
    ValueError where it has no such network.
    """

    def __init__(
        self,
        batch_size: Positive[int],
        repeats: Positive[int],
        precisions: list[Precision],
        compile: bool,  # noqa: A002  the name that users know
        compile_official: bool,
        *,
        backbone: Any,
        shape: DataShape,
        cond: Any,
        outputs: int,
        optimizer: Callable[..., Any],
        seed: int,
        device: torch.device,
    ):
        if not precisions:
            raise ValueError("suite.precisions=[] leaves nothing to time; accepted: no, bf16, bf16_weights")
        self.repeats, self.device, self.precisions = repeats, device, precisions
        self.compile, self.compile_official, self.optimizer = compile, compile_official, optimizer
        self.official, forward = official_dit(backbone, shape, cond, outputs)
        self.backbone = backbone.to(device).train()
        self.size = f"{len(blocks(backbone))}x{backbone.features.width}"
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(batch_size, *shape, generator=generator)
        timestep = torch.randint(1000, (batch_size,), generator=generator).float()
        label = torch.randint(cond.symbols, (batch_size, 1), generator=generator)
        target = torch.randn(batch_size, outputs * shape.channels, *x.shape[2:], generator=generator)
        self.batch = tuple(each.to(device) for each in (x, timestep, label, target))
        self.contestants = {name: self.ours(name) for name in precisions}
        self.rivals = self.theirs(self.official.to(device).train(), forward)

    def ours(self, precision: Precision) -> Contestant:
        network = copy.deepcopy(self.backbone)
        weights = weights_of(network, precision)
        if self.compile:
            compile_blocks(weights.running)
        optimizer, _ = self.optimizer(network.parameters(), 1000)
        return Contestant(
            lambda *inputs: weights.running(*inputs)[0], weights, optimizer, precision == "bf16"
        )

    def theirs(self, network: nn.Module, forward: Forward) -> dict[bool, Contestant]:
        """By whether they are under autocast; the same weights take part in both."""
        if self.compile_official:
            compile_blocks(network)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0)
        lows = {precision != "no" for precision in self.precisions}
        return {low: Contestant(forward, OwnWeights(network), optimizer, low) for low in lows}

    def __call__(self) -> Measured:
        self.repeat()  # compiles, and warms up caches of kernels and of memory
        peaks = {low: peak_rate(torch.bfloat16 if low else torch.float32, self.device) for low in self.rivals}
        repeats = [self.repeat() for _ in range(self.repeats)]
        seconds = {name: [each[name] for each in repeats] for name in repeats[0]}
        facts = self.facts(seconds, peaks)
        return Measured([self.ratio(name, seconds) for name in self.precisions], facts, told(facts))

    def ratio(self, name: str, seconds: dict[str, list[float]]) -> Ratio:
        """Ours over diffusers', of each repeat."""
        other = f"diffusers {rival(name)}"
        values = [ours / theirs for ours, theirs in zip(seconds[name], seconds[other], strict=True)]
        goals = GOALS if self.device.type == "cpu" else {}
        return Ratio(f"{name} / {other}", values, "at most", goals.get(name))

    def repeat(self) -> dict[str, float]:
        """Seconds of each contestant's step, rivals next to each other."""
        seconds: dict[str, float] = {}
        for name, contestant in self.contestants.items():
            other = f"diffusers {rival(name)}"
            if other not in seconds:
                seconds[other] = self.timed(self.rivals[name != "no"])
            seconds[name] = self.timed(contestant)
        return seconds

    def timed(self, contestant: Contestant) -> float:
        return stopped(lambda: contestant.step(*self.batch), self.device)[1]

    def facts(self, seconds: dict[str, list[float]], peaks: dict[bool, float]) -> dict[str, Any]:
        """What a step is made of, and how near its products come to the machine's rate."""
        x, timestep, label, _ = self.batch
        with torch.no_grad():
            forward = multiply_adds(lambda: self.backbone(x, timestep, label))
        operations, batch = 2 * PASSES * forward, len(x)
        usual = {name: median(each) for name, each in seconds.items()}
        return {
            "model": f"dit {self.size}",
            "batch": batch,
            "parameters": sum(p.numel() for p in self.backbone.parameters()),
            "multiply_adds": forward // batch,
            "compile": self.compile,
            "compile_official": self.compile_official,
            "images_per_second": {name: batch / each for name, each in usual.items()},
            "share_of_peak": {name: operations / each / peaks[half(name)] for name, each in usual.items()},
            "peak": {"bf16" if low else "no": rate for low, rate in peaks.items()},
            "seconds": seconds,
        }


def told(facts: dict[str, Any]) -> list[str]:
    peaks = (f"{name} {rate / 1e12:.2f} T/s" for name, rate in facts["peak"].items())
    rows = (
        f"{name}: {rate:.1f} images/s, {facts['share_of_peak'][name]:.0%} of the rate of matrix products"
        for name, rate in facts["images_per_second"].items()
    )
    return [*rows, f"rate of matrix products: {', '.join(peaks)}"]


def rival(precision: str) -> str:
    """The precision in which diffusers' network answers to one of ours."""
    return "no" if precision == "no" else "bf16"


def half(name: str) -> bool:
    return name.removeprefix("diffusers ") != "no"


def peak_rate(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Operations per second, two for a multiply-add, of the fastest product of large matrices."""
    rates = []
    for rows, inner, columns in LARGE:
        a = torch.randn(rows, inner, device=device).to(dtype)
        b = torch.randn(columns, inner, device=device).to(dtype)
        best = min(stopped(partial(torch.matmul, a, b.T), device)[1] for _ in range(repeats))
        rates.append(2 * rows * inner * columns / best)
    return max(rates)
