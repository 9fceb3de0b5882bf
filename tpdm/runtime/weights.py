"""Published weights: read without running what a pickle may hold, loaded each and no other."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn


def read_weights(path: Path, key: str) -> dict[str, Tensor]:
    """The published state dict that the setting `key` names, without running what a pickle may hold.

    ValueError of one line where there is none.
    """
    where = f"{key}={path}"
    if not path.is_file():
        raise ValueError(f"{where} {'is no file' if path.exists() else 'does not exist'}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # other bytes take a reader's code anywhere
        reason = " ".join(str(error).split(". ")[0].split())
        raise ValueError(f"{where} holds no weights that can be read safely ({reason[:160]})") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{where} holds no state dict")
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
