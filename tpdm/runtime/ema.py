"""Exponential moving average of a module's parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """A float32 shadow of the trained parameters, which follows them more closely while training is young."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.shadow = {name: p.detach().float().clone() for name, p in trained.items()}

    def decay_at(self, step: int) -> float:
        """TensorFlow's warm-up, ExponentialMovingAverage(num_updates): 0.1, 0.18, 0.25, ... to `decay`."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """shadow = decay * shadow + (1 - decay) * parameter; `step` counts the updates before this one."""
        parameters = dict(module.named_parameters())
        current = [parameters[name].float() for name in self.shadow]
        torch._foreach_lerp_(list(self.shadow.values()), current, 1 - self.decay_at(step))

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if different := sorted(state.keys() ^ self.shadow.keys()):
            raise ValueError(f"the saved average is another model's: only one of the two has {different[0]}")
        for name, shadow in self.shadow.items():
            shadow.copy_(state[name])
