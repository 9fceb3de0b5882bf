"""Published weights: read without running what a pickle may hold, loaded each and no other."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def read_weights(path: Path) -> dict[str, Tensor]:
    """A published state dict, without running what a pickle may hold. ValueError where it is none."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} holds no weights that can be read safely ({reason})") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict")
    return state


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Loads published weights, each of them and no other; ValueError with the first that does not fit."""
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        if name not in wanted:
            raise ValueError(f"{what} has {name}, which this network has not")
        if name not in state:
            raise ValueError(f"{what} lacks {name}")
        if state[name].shape != wanted[name].shape:
            seen, needed = tuple(state[name].shape), tuple(wanted[name].shape)
            raise ValueError(f"{what} has {name} {seen}, where this network has {needed}")
    module.load_state_dict(dict(state))
