"""A run that does not happen: what it would build, see and need. Nothing is allocated, nothing is written."""

from __future__ import annotations

import json
import os
from collections.abc import Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tpdm.assembly import DTYPES, Assembly
from tpdm.check import check, is_ready_made
from tpdm.predictor.budget import build_predictor, costs_of
from tpdm.registry import build
from tpdm.runtime.size import NOTHING, Size, size_of
from tpdm.sampler.adaptive import whole

Config = dict[str, Any]
FLOAT32 = 4  # bytes
MIB = 2**20


class Sizes(NamedTuple):
    """For one row of a batch."""

    denoiser: Size
    predictor: Size
    features: int  # elements of what a rollout keeps of each step


def dry_run(cfg: Config) -> None:
    """Checks the config as a run would, and prints its numbers; the last line is JSON."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by whatever starts several
    assembly = check(cfg, processes)
    sizes = sizes_of(cfg, assembly)
    denoiser, predictor = sizes.denoiser, sizes.predictor
    training = {
        "denoiser": denoiser_training(cfg, assembly, sizes, processes),
        "predictor": predictor_training(cfg, assembly, sizes, processes),
    }
    print(f"denoiser: {told(denoiser)}")
    print(f"predictor: {told(predictor)}")
    for name, numbers in training.items():
        for line in [] if numbers is None else explained(name, numbers):
            print(line)
    record = {
        "parameters": denoiser.parameters,
        "multiply_adds": denoiser.multiply_adds,
        "predictor_parameters": predictor.parameters,
        "predictor_multiply_adds": predictor.multiply_adds,
        "memory_bytes": max((sum(each["memory"].values()) for each in training.values() if each), default=0),
        "training": training,
    }
    print(json.dumps(record))


def sizes_of(cfg: Config, assembly: Assembly) -> Sizes:
    """Shows both networks one row, on tensors of the meta device that choose their kernels as a CPU's do."""
    with FakeTensorMode():
        backbone: Any = assembly.backbone()
        x, t = torch.zeros(1, *assembly.shape), torch.zeros(1)
        cond = assembly.blank()
        denoiser = size_of(backbone, lambda: backbone(x, t, cond))
        if cfg["predictor"] is None:
            return Sizes(denoiser, NOTHING, 0)
        costs = costs_of(cfg["reward"])
        predictor = build_predictor(cfg["predictor"], backbone.features, costs)
        told = () if costs is None else (torch.full_like(t, costs.middle),)
        features = backbone(x, t, cond)[1].map(Tensor.detach)
        kept = getattr(predictor, "digest", whole)(features)
        elements = sum(x.numel() for x in vars(kept).values() if isinstance(x, Tensor))
        return Sizes(denoiser, size_of(predictor, lambda: predictor(features, t, *told)), elements)


def denoiser_training(cfg: Config, assembly: Assembly, sizes: Sizes, processes: int) -> Config | None:
    """None where a denoiser that needs no training is taken over."""
    if cfg["denoiser"] is not None or is_ready_made(cfg):
        return None
    trainer, data = cfg["trainer"], assembly.data("train")
    seen = trainer["batch_size"] * trainer["max_steps"]
    rows = trainer["batch_size"] // (trainer["accumulate"] * processes)
    return {
        "batch": {"rows": rows, "accumulate": trainer["accumulate"], "processes": processes},
        "updates": trainer["max_steps"],
        "seen": seen,
        "epochs": seen / len(data) if isinstance(data, Sized) else None,  # None: drawn without end
        "memory": trained(sizes.denoiser, rows) | {"average": FLOAT32 * sizes.denoiser.parameters},
    }


def predictor_training(cfg: Config, assembly: Assembly, sizes: Sizes, processes: int) -> Config | None:
    """None for predictor=none. The memory is for trajectories that all take as many steps as they may."""
    if cfg["predictor"] is None:
        return None
    trainer, sampler = cfg["predictor_trainer"], build("sampler", cfg["sampler"])
    rollouts = trainer["prompts"] * trainer["samples"]
    rows = rollouts * (sampler.max_steps - 1)  # the last step is not drawn
    scored = -(-rows // trainer["minibatches"])
    itemsize = DTYPES[cfg["inference_dtype"]].itemsize
    noises = trainer["pool_size"] * (1 if trainer["share_noise"] else trainer["samples"])
    memory = trained(sizes.predictor, min(scored, trainer["replay_rows"] or scored)) | {
        "denoiser": itemsize * sizes.denoiser.parameters,
        "features": itemsize * rows * sizes.features,
        "pool": 2 * FLOAT32 * noises * torch.Size(assembly.shape).numel(),  # noises and where they end
    }
    return {
        "batch": {"prompts": trainer["prompts"], "samples": trainer["samples"], "processes": processes},
        "updates": trainer["max_steps"],
        "seen": rollouts * processes * trainer["max_steps"],
        "epochs": None,
        "memory": memory,
    }


def trained(size: Size, rows: int) -> dict[str, int]:
    """Bytes of a network in training: float32 weights, gradients, Adam's two moments, activations of a batch.

    Mixed precision about halves the last.
    """
    weights = FLOAT32 * size.parameters
    activations = rows * size.saved_bytes
    return {"weights": weights, "gradients": weights, "optimizer": 2 * weights, "activations": activations}


def told(size: Size) -> str:
    return f"{size.parameters:,} parameters, {size.multiply_adds:,} multiply-adds a row"


def explained(name: str, numbers: Config) -> list[str]:
    batch = torch.Size(numbers["batch"].values()).numel()
    product = " x ".join(f"{value} {factor}" for factor, value in numbers["batch"].items())
    epochs = "" if numbers["epochs"] is None else f", {numbers['epochs']:.1f} epochs"
    parts = ", ".join(f"{part} {size / MIB:,.1f}" for part, size in numbers["memory"].items())
    total = sum(numbers["memory"].values()) / MIB
    return [
        f"training the {name}: {batch:,} an update = {product}",
        f"  {numbers['updates']:,} updates see {numbers['seen']:,}{epochs}",
        f"  about {total:,.1f} MiB in each process: {parts}",
    ]
