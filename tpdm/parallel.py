"""How a network is spread over the processes that train it."""

import warnings
from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tpdm.nn.blocks import blocks
from tpdm.registry import register

Parallel = Callable[[nn.Module, Accelerator], Any]  # the network as it is called in training


@register("parallel", "ddp")
def ddp(network: nn.Module, accelerator: Accelerator, /) -> Any:
    """Each process holds the whole network; gradients are averaged as they appear (Li et al. 2020)."""
    return accelerator.prepare_model(network)


@register("parallel", "fsdp")
def fsdp(network: nn.Module, accelerator: Accelerator, /, reshard_after_forward: bool) -> Any:
    """Each process holds a share of every weight, and a whole block while that runs (Zhao et al. 2023).

    Without `reshard_after_forward` a block stays whole until its backward pass. Shards in place, by torch's
    `fully_shard`; one process alone holds everything anyway.
    """
    if accelerator.num_processes == 1:
        return network
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # nobody writes into it
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for part in (*blocks(network), network):
        fully_shard(part, mesh=mesh, reshard_after_forward=reshard_after_forward)
    return network
