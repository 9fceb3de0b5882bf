"""An update on Stable Diffusion 3's transformer: its time, its features and its memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from tpdm.predictor.cnn import CNNPredictor
from tpdm.predictor.hybrid import HybridPredictor
from tpdm.predictor.vit import ViTPredictor
from tpdm.registry import Positive, Range, register
from tpdm.sampler.adaptive import AdaptiveSampler, whole
from tpdm.suite.peak import Peak, peaks
from tpdm.suite.ratio import Measured, Ratio
from tpdm.suite.rollout import work
from tpdm.suite.transformer import Mode, Workload
from tpdm.suite.update import Updates
from tpdm.types import Features, FeatureSpec, Rollout, Scheduler

MEDIUM = FeatureSpec(1536, 1536, None, (64, 64))  # Stable Diffusion 3 medium, at 1024 x 1024 pixels
MIB = 2**20


@register("suite", "sd3")
class SD3Suite:
    """Updates with the transformer in each of `modes`, by turns; the first mode's also the plain way, with
    the same draws. Memory is that of updates whose trajectories take each of `memory_steps`.

    Raises ValueError where there is no mode, or the sampler asks no predictor.
    """

    def __init__(
        self,
        layers: Positive[int],
        num_heads: Positive[int],
        head_width: Positive[int],
        side: Annotated[int, Range(min=2)],
        tokens: Positive[int],
        guidance_scale: Positive[float],
        modes: list[Mode],
        memory_steps: list[Positive[int]],
        repeats: Positive[int],
        *,
        scheduler: Scheduler,
        sampler: AdaptiveSampler,
        make_predictor: Callable[..., Any],
        make_trainer: Callable[..., Any],
        optimizer: Callable[..., Any],
        seed: int,
        device: torch.device,
    ):
        if not modes:
            raise ValueError("suite.modes=[] leaves nothing to time; accepted: float32, bfloat16, compiled")
        if not isinstance(sampler, AdaptiveSampler):
            raise ValueError("suite=sd3 trains a predictor; use sampler=adaptive")
        sizes = (layers, num_heads, head_width, side, tokens, guidance_scale)
        made = (make_predictor, make_trainer, optimizer)
        self.workload = Workload(*sizes, scheduler, sampler, *made, seed, device)
        self.modes, self.memory_steps, self.repeats = modes, memory_steps, repeats

    def __call__(self) -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            every = {mode: Updates(self.workload, mode, Path(folder)) for mode in self.modes}
            self.repeat(0, every)  # compiles, and warms up caches of kernels and of memory
            repeats = [self.repeat(k, every) for k in range(1, self.repeats + 1)]
        rollouts, timed = zip(*repeats, strict=True)
        seconds = {name: [each[name] for each in timed] for name in timed[0]}
        memory = peaks(self.workload, self.modes[0], self.memory_steps) if self.memory_steps else []
        facts = {
            **work(rollouts[-1]),
            "evaluated": every[self.modes[0]].rows,  # by the transformer: twice the sum of the lengths
            "seconds": seconds,
            "bytes": {name: kept_by(self.workload.make_predictor, spec) for name, spec in self.specs.items()},
            "memory": {steps: each._asdict() for steps, each in zip(self.memory_steps, memory, strict=True)},
        }
        ratios = [*self.times(seconds), self.stored(rollouts[-1]), *grown(memory)]
        return Measured(ratios, facts, told(facts))

    @property
    def specs(self) -> dict[str, FeatureSpec]:
        return {"this transformer": self.workload.features, "Stable Diffusion 3 medium": MEDIUM}

    def repeat(self, k: int, every: dict[Mode, Updates]) -> tuple[Rollout, dict[str, float]]:
        """Seconds of every contestant, each once; and the first mode's rollout."""
        rollouts: list[Rollout] = []
        seconds: dict[str, float] = {}
        for mode, updates in every.items():
            rollout, timed = updates.ours(k)
            rollouts.append(rollout)
            seconds |= {f"{mode} {name}": value for name, value in timed.items()}
            if len(rollouts) == 1:
                seconds["plain update"] = updates.plain(k, rollout)
        return rollouts[0], seconds

    def times(self, seconds: dict[str, list[float]]) -> list[Ratio]:
        first, *others = self.modes
        wanted: list[tuple[str, str, float | None]] = [
            *((f"{mode} rollout", f"{mode} rows", 1.10) for mode in self.modes),
            (f"{first} update", "plain update", 0.65),
            *((f"{mode} update", f"{mode} rows", None) for mode in self.modes),
            *((f"{mode} update", f"{first} update", None) for mode in others),
        ]
        return [
            Ratio(f"{name} / {other}", quotients(seconds[name], seconds[other]), "at most", goal)
            for name, other, goal in wanted
        ]

    def stored(self, rollout: Rollout) -> Ratio:
        """Bytes of a step and sample as the transformer shows them, over those that the rollout stored."""
        assert rollout.features is not None, "a rollout of at least one draw keeps some"
        dtype = rollout.features.steps[0].first.dtype
        shown = size(one_row(self.workload.features, dtype))
        kept = rollout.features.bytes / len(rollout.features)
        predictor = self.workload.make_predictor(features=self.workload.features)
        goal = 10.0 if isinstance(predictor, ViTPredictor) else None
        return Ratio("bytes of features shown / stored", [shown / max(kept, 1)], "at least", goal)


def quotients(above: list[float], below: list[float]) -> list[float]:
    return [x / y for x, y in zip(above, below, strict=True)]


def grown(memory: list[Peak]) -> list[Ratio]:
    """Memory of the updates with the most and the fewest steps, without what they store."""
    if len(memory) < 2:
        return []
    beside = [each.memory - each.features for each in memory]
    name = "memory of an update beside its features, most steps / fewest"
    return [Ratio(name, [beside[-1] / beside[0]], "at most", 1.05)]


def kept_by(make_predictor: Callable[..., Any], spec: FeatureSpec) -> dict[str, int]:
    """Bytes of a step and sample in bfloat16: as shown, and as the predictors keep them."""
    shown = one_row(spec, torch.bfloat16)
    with torch.device("meta"):
        cnn = CNNPredictor(16, 4, 16, (1.5, 0.5), 4.0, 1.0, "raster", features=spec)
        made = {
            "configured": make_predictor(features=spec),
            "hybrid of it": HybridPredictor(make_predictor, features=spec),
            "cnn": cnn,
        }
    kept = {name: size(getattr(each, "digest", whole)(shown)) for name, each in made.items()}
    return {"shown": size(shown), **kept}


def one_row(spec: FeatureSpec, dtype: torch.dtype) -> Features:
    """What a transformer shows of one sample; no numbers."""
    nothing: dict[str, Any] = {"dtype": dtype, "device": "meta"}
    tokens = torch.empty(1, spec.hw[0] * spec.hw[1], spec.width, **nothing)
    return Features(tokens, tokens, torch.empty(1, spec.temb_width, **nothing), None, spec.hw)


def size(features: Features) -> int:
    return sum(x.nbytes for x in vars(features).values() if isinstance(x, Tensor))


def told(facts: dict[str, Any]) -> list[str]:
    memory = (
        f"{steps} steps: an update needs {each['memory'] / MIB:,.1f} MiB, of which features "
        f"{each['features'] / MIB:,.2f} MiB"
        for steps, each in facts["memory"].items()
    )
    features = (
        f"bytes of a step and sample of {name}, bfloat16: "
        + ", ".join(f"{who} {number:,}" for who, number in kept.items())
        for name, kept in facts["bytes"].items()
    )
    return [*features, *memory]
