"""What rewards say of a run: images that could not be judged, and a reward that is being fooled."""

import sys
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SURE = 3.0  # standard errors by which a slope must differ from 0


class RewardHackedError(RuntimeError):
    """The trained reward rises while the held-out one falls."""


class Watch:
    """Counts the groups left out, and holds the last `window` updates' mean rewards against each other."""

    def __init__(self, max_left_out: float, window: int, action: Literal["off", "warn", "stop"]):
        self.max_left_out, self.window, self.action = max_left_out, window, action
        self.left_out = 0  # groups, over all updates and processes
        self.history: list[tuple[float, float]] = []  # (trained, held out), the newest last

    def count(self, incomplete: Bool[Tensor, "P"]) -> str | None:
        """What is wrong where too many groups of an update hold an image that the reward could not judge."""
        groups = int(incomplete.sum())
        self.left_out += groups
        if groups <= self.max_left_out * len(incomplete):
            return None
        return (
            f"reward is nan for an image in {groups} of {len(incomplete)} groups, "
            f"more than predictor_trainer.max_left_out={self.max_left_out:g}"
        )

    def compare(self, step: int, trained: float, held_out: float) -> None:
        """Warns, or raises RewardHackedError, where one clearly rose and the other clearly fell."""
        self.history = [*self.history, (trained, held_out)][-self.window :]
        if self.action == "off" or len(self.history) < self.window:
            return
        rise, fall = (slope(torch.tensor(values)) for values in zip(*self.history, strict=True))
        if rise < SURE or fall > -SURE:
            return
        told = (
            f"the trained reward rose while the held-out one fell over the last {self.window} updates up to "
            f"step {step}: the predictor may be fooling its reward"
        )
        if self.action == "stop":
            raise RewardHackedError(f"{told}; predictor_trainer.guard=warn goes on in spite of it")
        print(f"tpdm: warning: {told}", file=sys.stderr, flush=True)
        self.history = []  # said once in a window

    def state_dict(self) -> dict[str, Any]:
        return {"left_out": self.left_out, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.left_out = state["left_out"]
        self.history = [(trained, held_out) for trained, held_out in state["history"]]


def slope(values: Float[Tensor, "K"]) -> float:
    """Of the least-squares line, in its standard errors; 0 where there is no line."""
    y = values.double()
    x = torch.arange(len(y), dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    squares = x.square().sum()
    rate = (x * y).sum() / squares
    error = ((y - rate * x).square().sum() / (len(y) - 2) / squares).sqrt()
    return 0.0 if rate == 0 else (rate / error.clamp_min(1e-12 * rate.abs())).item()
