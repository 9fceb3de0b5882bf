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
    sampler = copy.copy(workload.sampler)
    sampler.max_steps, sampler.min_ratio = max_steps, LONGEST
    network = workload.network(mode)
    with tempfile.TemporaryDirectory() as folder:
        trainer, backbone = workload.trainer(network, Path(folder))
        trainer.sampler = sampler
        backbone(*workload.inputs(1))  # loads kernels
        before = reset(workload.device)
        generator = trainer.stage.generator(0)
        rollout, judged = trainer.explore(generator)
        assert rollout.features is not None
        assert (rollout.trajectory.nfe == max_steps).all()
        stored = rollout.features.bytes
        advantage = trainer.compare(trainer.reward.cost(judged.reward, rollout.trajectory.nfe), 0)
        trainer.improve(rollout, advantage, 0, generator)
        return Peak(highest(workload.device) - before, stored)


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
