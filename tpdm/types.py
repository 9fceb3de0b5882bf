"""Shared records and protocols: what the parts of the house say to each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributions import Beta


@dataclass(frozen=True)
class DataShape:
    """Size of the state a denoiser works on: pixels, or latents after the codec."""

    channels: int
    height: int
    width: int

    def __iter__(self):
        return iter((self.channels, self.height, self.width))


@dataclass(frozen=True)
class CondSpec:
    """Label conditioning: `slots` integers per sample, each in [0, symbols); `symbols` itself is the null
    label."""

    slots: int
    symbols: int


@dataclass(frozen=True)
class TextSpec:
    """Text conditioning: widths of an encoder's answer, and how many tokens it has at most."""

    pooled_width: int
    token_width: int
    max_tokens: int


@dataclass(frozen=True)
class Text:
    """Captions as an encoder answers them; handled row by row like a tensor."""

    pooled: Float[Tensor, "B E"]  # one vector for the whole caption
    tokens: Float[Tensor, "B M T"]
    mask: Bool[Tensor, "B M"]  # True where a token is; somewhere in every row

    @staticmethod
    def nothing(spec: TextSpec) -> Text:
        """No caption at all: one token, and zeros everywhere."""
        pooled, tokens = torch.zeros(1, spec.pooled_width), torch.zeros(1, spec.max_tokens, spec.token_width)
        return Text(pooled, tokens, torch.arange(spec.max_tokens)[None] == 0)

    def without(self, dropped: Bool[Tensor, "B"]) -> Text:
        """The same captions, and nothing in the rows that are dropped."""
        keep, first = ~dropped[:, None], torch.arange(self.mask.shape[1], device=self.mask.device) == 0
        mask = torch.where(keep, self.mask, first)
        return Text(self.pooled * keep, self.tokens * keep[..., None], mask)

    def map(self, function) -> Text:
        """The same record with `function` applied to every tensor."""
        return Text(function(self.pooled), function(self.tokens), function(self.mask))

    def __getitem__(self, rows) -> Text:
        return self.map(lambda x: x[rows])

    def __len__(self) -> int:
        return len(self.pooled)

    @property
    def device(self) -> torch.device:
        return self.pooled.device

    def to(self, device: torch.device) -> Text:
        return self.map(lambda x: x.to(device))

    def cpu(self) -> Text:
        return self.to(torch.device("cpu"))

    def repeat_interleave(self, repeats: int, dim: int = 0) -> Text:
        return self.map(lambda x: x.repeat_interleave(repeats, dim))

    def split(self, size: int) -> list[Text]:
        return [self[start : start + size] for start in range(0, len(self), size)]


Condition = Tensor | Text  # (B, slots) labels, or captions


def cat_conditions(parts: list[Any]) -> Condition:
    """Concatenates along the batch axis."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return Text(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Text)))


class Coefficients(NamedTuple):
    """Path coefficients at t, each (B,) float32: x = alpha * x0 + sigma * eps, and their derivatives in t."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


@dataclass(frozen=True)
class FeatureSpec:
    """Sizes of a backbone's Features, known before any forward pass; what a predictor is built from."""

    width: int
    temb_width: int
    text_width: int | None
    hw: tuple[int, int]


NARROWEST = 1.01  # range of costs, its end over its beginning


@dataclass(frozen=True)
class CostRange:
    """What a step may cost where a predictor is told its cost. ValueError where that is no range: its
    calibration tells costs in it apart."""

    low: float
    high: float

    def __post_init__(self):
        if not 0 < self.low * NARROWEST <= self.high < math.inf:
            given = f"reward.cost.low={self.low} and reward.cost.high={self.high}"
            raise ValueError(f"{given}; accepted: low above 0, and high at least {NARROWEST} times as much")

    @property
    def middle(self) -> float:
        return math.sqrt(self.low * self.high)

    def at(self, share: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Costs from low (share 0) to high (1), equal ratios apart."""
        return self.low * (self.high / self.low) ** share

    def share(self, cost: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The inverse of `at`; a cost out of the range counts as its nearest end."""
        return ((cost / self.low).log() / math.log(self.high / self.low)).clamp(0, 1)


@dataclass(frozen=True)
class Features:
    """What a backbone shows of itself: references to tensors it holds anyway."""

    first: Float[Tensor, "B N D"]  # tokens after the patch or stem embedding
    last: Float[Tensor, "B N D"]  # tokens after the final norm, before the output projection
    temb: Float[Tensor, "B E"]  # the embedding the blocks were modulated with
    text: Float[Tensor, "B M T"] | None  # the conditioning tokens
    hw: tuple[int, int]  # N == h * w, raster order

    def map(self, function: Callable[[Tensor], Tensor]) -> Features:
        """The same record with `function` applied to every tensor."""
        text = None if self.text is None else function(self.text)
        return Features(function(self.first), function(self.last), function(self.temb), text, self.hw)

    def __getitem__(self, rows) -> Features:
        return self.map(lambda x: x[rows])

    @staticmethod
    def cat(parts: list[Features]) -> Features:
        """Concatenates along the batch axis."""
        first, last, temb = (torch.cat([getattr(p, key) for p in parts]) for key in ("first", "last", "temb"))
        text = [p.text for p in parts if p.text is not None]
        return Features(first, last, temb, torch.cat(text) if text else None, parts[0].hw)


@dataclass(frozen=True)
class KeptFeatures:
    """Features of the steps of a rollout, each stored once: choosing some of them copies nothing."""

    steps: list[Features]  # of each step, the rows that drew
    rows: Int[Tensor, "R"]  # which of all those, counted through the steps; ascending

    @staticmethod
    def whole(steps: list[Features]) -> KeptFeatures:
        count = sum(len(step.temb) for step in steps)
        return KeptFeatures(steps, torch.arange(count, device=steps[0].temb.device))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows) -> KeptFeatures:
        return KeptFeatures(self.steps, self.rows[rows])

    def read(self) -> Features:
        """The rows as one batch."""
        starts = [0, *accumulate(len(step.temb) for step in self.steps)]
        cuts = torch.searchsorted(self.rows, torch.tensor(starts, device=self.rows.device)).tolist()
        parts = [
            step if stop - first == len(step.temb) else step[self.rows[first:stop] - start]
            for step, start, (first, stop) in zip(self.steps, starts, pairwise(cuts), strict=False)
            if stop > first
        ]
        return Features.cat(parts)

    @property
    def bytes(self) -> int:
        """Of everything that is stored."""
        tensors = (x for step in self.steps for x in vars(step).values() if isinstance(x, Tensor))
        return sum(x.untyped_storage().nbytes() for x in tensors)


class Prediction(NamedTuple):
    """A denoiser's answer at (x, t): both ends of the path through x, float32."""

    x0: Float[Tensor, "B C H W"]
    eps: Float[Tensor, "B C H W"]
    features: Features
    variance: Float[Tensor, "B C H W"] | None = None  # learned: -1 the posterior's, 1 beta's, between by log


@dataclass(frozen=True)
class Trajectory:
    """Where samples went: K is the longest; a row that ended earlier stays at t = 0."""

    x0: Float[Tensor, "B C H W"]
    t: Float[Tensor, "B K+1"]
    alive: Bool[Tensor, "B K"]  # True where step k was really taken
    nfe: Int[Tensor, "B"]  # denoiser calls


@dataclass(frozen=True)
class Rollout:
    """A trajectory whose times a predictor drew, with what is needed to score those draws again."""

    trajectory: Trajectory
    ratio: Float[Tensor, "B K"]  # the action, t_next / t as drawn; 1 where nothing was drawn
    log_prob: Float[Tensor, "B K"]  # 0 where nothing was drawn
    drawn: Bool[Tensor, "B K"]  # alive, and not the forced last step
    features: (
        KeptFeatures | None
    )  # what the predictor keeps of the rows of `drawn`, step-major: R = drawn.sum()
    cost: Float[Tensor, "B"] | None = None  # of a step, as the predictor was told it; None: it was not


class Scheduler(Protocol):
    """A noise path: t in [0, 1], 1 is noise, 0 is data."""

    predicts: str

    def __call__(self, t: Float[Tensor, "B"]) -> Coefficients: ...

    def timestep(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """What a network is told of t, in [0, 1000]."""
        ...

    def time_told(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Inverse of `timestep`."""
        ...

    def warp(self, u: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Uniform position u in [0, 1] to the t this path spends it on (SD3's shift; identity elsewhere)."""
        ...

    def noise_level(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """sigma / (alpha + sigma): the flow time of equal signal-to-noise ratio."""
        ...

    def time_at(self, noise_level: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Inverse of `noise_level`."""
        ...


class TextCodec(Protocol):
    """Captions to what a denoiser is conditioned on. `reads` is known before it is built."""

    reads: str  # labels or captions

    @property
    def spec(self) -> TextSpec | None:
        """None: it leaves labels as they are."""
        ...

    @property
    def vocabulary(self) -> list[str] | None:
        """What has to be kept with a denoiser's weights, where its captions are read word by word."""
        ...

    @property
    def null(self) -> Text | None:
        """Its answer to no caption; None: the zeros that a denoiser was trained with."""
        ...

    def __call__(self, captions: Any) -> Condition:
        """Captions encoded, or as the token ids that `network` encodes."""
        ...

    def network(self) -> Any | None:
        """The encoder that is to be trained as a part of the denoiser: token ids -> Text."""
        ...


class Codec(Protocol):
    """Pixels to the state a denoiser works on, and back; frozen, without gradients, on the device of the
    images, and without randomness."""

    @property
    def sha256(self) -> str:
        """What latents were made by: those of another hash mean something else."""
        ...

    def encode(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]: ...

    def decode(self, z: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]: ...

    def shape_of(self, pixels: DataShape) -> DataShape:
        """Size of the state of images of this size."""
        ...


class DenoiserLike(Protocol):
    """Anything that answers (x, t, cond) with both ends of the path."""

    scheduler: Scheduler

    def __call__(self, x: Float[Tensor, "B C H W"], t: Float[Tensor, "B"], cond: Condition) -> Prediction: ...


class Guidance(Protocol):
    """How strong guidance is along the path, and whether it is on the first `channels` only; None is all."""

    @property
    def channels(self) -> int | None: ...

    def weight(self, scale: float, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]: ...


class UnaidedSampler(Protocol):
    """Noise to samples without a predictor."""

    @property
    def title(self) -> str:
        """What a table calls it."""
        ...

    def check(self, path: Scheduler) -> None:
        """Raises ValueError where it is not for this path."""
        ...

    def __call__(
        self,
        denoiser: DenoiserLike,
        noise: Float[Tensor, "B C H W"],
        cond: Condition,
        seeds: Sequence[int],
        /,
    ) -> Trajectory: ...


class TimePredictor(Protocol):
    """Reads a denoiser's features and the noise level; answers with a Beta over ratio = t_next / t.

    One that needs less than all of them may have a method `digest(features) -> Features`, whose result it
    answers in the same way as the whole: a rollout then keeps no more than that. It depends on no weight that
    learns.

    One that was made for a range of costs is told what a step costs as well; no other is.
    """

    def __call__(
        self, features: Features, t: Float[Tensor, "B"], cost: Float[Tensor, "B"] | None = None
    ) -> Beta: ...
