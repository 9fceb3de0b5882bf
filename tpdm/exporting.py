"""A learned mean schedule as diffusers takes it: sigmas, and a scheduler that leaves them as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tpdm.evaluation.schedule import mean_schedule
from tpdm.runtime.atomic import write_json
from tpdm.scheduler.flow import Flow
from tpdm.types import Scheduler, Trajectory

SIGMAS, GRID, SCHEDULER = "sigmas.json", "grid.json", "scheduler/scheduler_config.json"


class Remembering:
    """A sampler that keeps the times of every sample it draws."""

    def __init__(self, sampler: Any):
        self.sampler = sampler
        self.drawn: list[Trajectory] = []

    def __call__(self, *asked: Any) -> Trajectory:
        self.drawn.append(self.sampler(*asked))
        return self.drawn[-1]

    def mean(self) -> Tensor:
        """The mean schedule, (K+1,) from 1 to 0, of as many steps as the samples took on average."""
        longest = max(part.t.shape[1] for part in self.drawn)
        t = torch.cat([pad(part.t.cpu(), (0, longest - part.t.shape[1])) for part in self.drawn])
        nfe = torch.cat([part.nfe.cpu() for part in self.drawn])
        return mean_schedule(t, nfe, max(round(nfe.float().mean().item()), 1))


def check_exportable(scheduler: Scheduler) -> None:
    """Raises ValueError where diffusers' flow-match scheduler is not on the path of the run."""
    if not isinstance(scheduler, Flow):
        raise ValueError("export=diffusers is for the flow path, whose times are diffusers' sigmas")


def export(folder: Path, times: Sequence[float]) -> None:
    """Writes three files.

    sigmas.json is what a diffusers pipeline is called with, `pipe(sigmas=...)`. Its scheduler would shift
    them once more: scheduler/ is one with shift 1, which keeps them. grid.json is for sampler/grid=learned.
    """
    (folder / SCHEDULER).parent.mkdir(parents=True, exist_ok=True)
    write_json(folder / SIGMAS, list(times[:-1]))
    write_json(folder / GRID, list(times))
    about = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": 1.0,
        "use_dynamic_shifting": False,
    }
    write_json(folder / SCHEDULER, about)
