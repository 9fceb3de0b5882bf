"""State that is spread over processes, made whole to be kept, and spread again when it is found."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(state: Any) -> Any:
    """The state as a process alone would hold it; all processes call this together.

    What was spread comes whole and on the CPU, the rest as it is.
    """
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, Mapping):
        return {key: whole(value) for key, value in state.items()}
    return [whole(value) for value in state] if isinstance(state, list) else state


def load_whole(part: Any, state: Any) -> None:
    """Loads what `whole` made, each tensor cut as the part's own is; all processes call this together."""
    moments = isinstance(part, torch.optim.Optimizer)
    part.load_state_dict(spread_moments(state, part) if moments else spread(state, part.state_dict()))


def spread(state: Any, like: Any) -> Any:
    """The state with each of its tensors cut as the one in its place in `like` is."""
    if isinstance(like, DTensor) and isinstance(state, Tensor):
        return distribute_tensor(state.to(like.device), like.device_mesh, like.placements)
    if isinstance(state, Mapping) and isinstance(like, Mapping):
        return {key: spread(value, like.get(key)) for key, value in state.items()}
    return state


def spread_moments(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state, of which what is as large as its parameter is cut as that is."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {name: spread(x, parameters[index]) if x.ndim else x for name, x in of_one.items()}
        for index, of_one in state["state"].items()
    }
    return {**state, "state": moments}
