"""Memory of one update, in a process that does nothing else: what has done more hides it in what it freed."""

from __future__ import annotations

import copy
import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from tpdm.runtime.process import settle
from tpdm.suite.resident import resident
from tpdm.suite.transformer import Mode, Workload
from tpdm.trainer.predictor import PredictorTrainer

LONGEST = 0.95  # of a ratio that is drawn: no trajectory of 28 such steps ends before its last


class Peak(NamedTuple):
    """Bytes that an update needs beside the networks, at most at once; and of those, what it stores."""

    memory: int
    features: int


def peaks(workload: Workload, mode: Mode, max_steps: list[int]) -> list[Peak]:
    """Of an update whose trajectories all take that many steps, each in a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as processes:
        return list(processes.map(peak, *zip(*((workload, mode, steps) for steps in max_steps), strict=True)))


def peak(workload: Workload, mode: Mode, max_steps: int) -> Peak:
    settle()
    network = workload.network(mode)
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = workload.trainer(network, Path(folder))
        trainer.sampler = copy.copy(workload.sampler)
        trainer.sampler.min_ratio = LONGEST
        sizes = trainer.prompts, trainer.samples
        trainer.prompts, trainer.samples, trainer.sampler.max_steps = 1, 2, 2
        update(trainer, 0)  # loads kernels and libraries, for hardly any rows
        (trainer.prompts, trainer.samples), trainer.sampler.max_steps = sizes, max_steps
        before = reset(workload.device)
        stored = update(trainer, 1)
        return Peak(highest(workload.device) - before, stored)


def update(trainer: PredictorTrainer, step: int) -> int:
    """One update; the bytes of features that it stored meanwhile."""
    rollout, _, _ = trainer.update(step)
    assert rollout.features is not None
    assert (rollout.trajectory.nfe == trainer.sampler.max_steps).all()
    return rollout.features.bytes


def reset(device: torch.device) -> int:
    """Bytes in use now, from where `highest` is counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return resident()


def highest(device: torch.device) -> int:
    """The most bytes in use so far: the allocator's count on a GPU, a process's resident memory elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
