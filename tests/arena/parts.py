"""A small arena on data whose ODE is known: Gaussians, of which each condition has another width."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.distributions import Beta
from torch.nn.functional import one_hot

from tests.ideal import IdealDenoiser
from tpdm.arena.adaptive import Adaptive
from tpdm.arena.allocator import Allocator
from tpdm.arena.borrowed import MeanSchedule, OwnSteps, Shuffled
from tpdm.arena.camp import Runner, Trained
from tpdm.arena.controlled import Controlled
from tpdm.arena.one_shot import OneShot
from tpdm.arena.oracle import OracleShape, OracleSteps
from tpdm.arena.static import Table
from tpdm.registry import build
from tpdm.sampler import grid
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.step import ab2
from tpdm.scheduler.flow import Flow
from tpdm.suite.arena import Arena
from tpdm.types import DataShape

SHAPE = DataShape(1, 2, 2)
ONE_SHOT = {"width": 8, "concentration": 250.0, "updates": 3, "batch_size": 16, "lr": 6e-3, "held_out": 0.25}
CONTESTANTS = {
    "table": partial(Table, largest=8, iterations=1),
    "adaptive": partial(Adaptive, predictor="predictor", step=None),
    "mean_schedule": partial(MeanSchedule, of="adaptive"),
    "shuffled": partial(Shuffled, of="adaptive"),
    "own_steps": partial(OwnSteps, of="adaptive"),
    "allocator": partial(Allocator, most=7),
    "one_shot": partial(OneShot, **ONE_SHOT),
    "controlled": partial(Controlled, first=0.2, max_steps=12, t_min=0.01),
    "oracle_steps": partial(OracleSteps, most=7),
    "oracle_shape": partial(OracleShape, powers=[0.8, 1.0, 1.3]),
}
GRIDS = {"uniform": grid.uniform, "shifted": partial(grid.shifted, shift=3.0)}


class Widths(IdealDenoiser):
    """The condition is the width of the Gaussian, in tenths: wide ones take more steps."""

    def __call__(self, x, t, cond):
        self.std = (cond[:, :1, None, None] + 1) / 10
        p = super().__call__(x, t, cond)
        return p._replace(features=replace(p.features, temb=one_hot(cond[:, 0], 12).float()))


def wide_look_twice(features, t):
    """A predictor that reads the spread of the first noise, so that schedules differ in length."""
    spread = features.first.flatten(1).std(1)
    return Beta(1.5 + 2 * spread, torch.full_like(spread, 2.0))


def conditions(n, generator):
    return None, torch.randint(12, (n, 1), generator=generator)


def arena(folder: Path, **changes) -> Arena:
    """Two seeds, three budgets; changes are arguments of Arena."""
    sampler = AdaptiveSampler(ab2, 12, 0.01, 1e-3, 0.999, "mode", "data")
    trained = {"predictor": Trained(wide_look_twice, None, 0.0)}
    settings = {
        "targets": [2, 3, 4],
        "seeds": [0, 1],
        "search": 8,
        "learning": 64,
        "matching": 32,
        "evaluation": 48,
        "batch_size": 32,
        "reference_steps": 6,
        "timed_batch": 4,
        "timed_repeats": 1,
        "processes": 1,
        "baseline": "table",
        "grids": GRIDS,
        "samplers": {"heun": partial(build, "sampler", HEUN)},
        "searches": {},
        "contestants": CONTESTANTS,
    }
    facts = {
        "runner": Runner(Widths(Flow(1.0, "velocity")), ab2, sampler, trained, lambda x: x, {}),
        "made_by": {},
        "data": SimpleNamespace(batch=conditions),
        "condition": lambda cond: cond,
        "shape": SHAPE,
        "classifier": None,
        "device": torch.device("cpu"),
        "folder": folder,
    }
    return Arena(**(settings | facts | changes))


def static_error(ring, mean: float) -> float:
    """The baseline's at a mean number of calls: of the two lengths around it, each for its share."""
    low, high = (around.error.mean().item() for around in ring.static_around(mean))
    return low + mean % 1 * (high - low)


HEUN = {"name": "heun", "num_steps": 1, "grid": {"name": "uniform"}}
