"""What the rewards with a published network have in common: loaded when first asked, run in batches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.reward.cost import Cost
from tpdm.runtime.memory import memory_of


class Scorer(ABC):
    """Images, and what was asked for, to one number each.

    Constructed, it has found its files and read none of them. ValueError where prompts are read and there are
    none.
    """

    uses_target = False
    uses_prompts = True

    def __init__(self, cost: Cost, batch_size: int, device: torch.device, key: str):
        self.cost, self.batch_size, self.device, self.key = cost, batch_size, device, key

    @abstractmethod
    def load(self) -> nn.Module:
        """The network with its published weights."""

    @abstractmethod
    def score(self, images: Float[Tensor, "B C H W"], prompts: Sequence[str]) -> Float[Tensor, "B"]:
        """Of one batch, by `network`; images are in [-1, 1]."""

    @cached_property
    def network(self) -> Any:
        return self.load().to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(
        self,
        x0: Float[Tensor, "B C H W"],
        cond: Any,
        target: Tensor | None,
        prompts: Sequence[str] | None = None,
    ) -> Float[Tensor, "B"]:
        asked = captions(self, prompts, len(x0))
        starts = range(0, len(x0), self.batch_size)
        parts = [(start, start + self.batch_size) for start in starts]
        with memory_of(min(len(x0), self.batch_size), "images", f"{self.key}.batch_size"):
            scores = [self.score(x0[a:b].to(self.device), asked[a:b]).float() for a, b in parts]
        return torch.cat(scores).to(x0.device)


def captions(reward: Any, prompts: Sequence[str] | None, count: int) -> Sequence[str]:
    """The prompts, or as many empty ones for a reward that reads none. ValueError where they are missing."""
    if prompts is None and reward.uses_prompts:
        name = type(reward).__name__
        raise ValueError(
            f"{name} reads prompts, and these data have none; use data=prompts or other captions"
        )
    return [""] * count if prompts is None else prompts
