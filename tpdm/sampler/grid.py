"""Time grids: num_steps + 1 noise levels falling from exactly 1 (pure noise) to exactly 0 (data)."""

from collections.abc import Callable
from itertools import accumulate, repeat
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from tpdm.registry import Positive, Range, register
from tpdm.sampler.grid_file import Levels, read_grid
from tpdm.scheduler.ddpm import VariancePreserving
from tpdm.types import Scheduler

Grid = Callable[[int], Levels]
Last = Annotated[float, Range(above=0, below=1)]


@register("sampler/grid", "uniform")
def uniform(num_steps: int, /) -> Levels:
    return _falling(num_steps).float()


@register("sampler/grid", "shifted")
def shifted(num_steps: int, /, shift: Positive[float]) -> Levels:
    """SD3's shift of a uniform grid (Esser et al. 2024, eq. 23; shift 3).

    diffusers shifts its smallest noise level once more on the way (see `shifted_twice`). This one is the
    formula and no more.
    """
    return _shift(_falling(num_steps), shift).float()


@register("sampler/grid", "shifted_twice")
def shifted_twice(num_steps: int, /, shift: Positive[float]) -> Levels:
    """The grid that diffusers' flow-match scheduler gives SD3 of itself.

    It is even from 1 to the shifted last entry of its table of 1,000, and all of that is shifted once more:
    at shift 3 it ends in a step from .0089 to 0 whatever the number of steps, nearly a call wasted.
    """
    last = _shift(torch.tensor(1e-3, dtype=torch.float64), shift).item()
    even = torch.linspace(1, last, num_steps, dtype=torch.float64)
    return _ended(torch.cat([_shift(even, shift), torch.zeros(1)]))


@register("sampler/grid", "cosine")
def cosine(num_steps: int, /) -> Levels:
    """The noise levels of a cosine path, tan(pi u / 2) / (1 + tan(pi u / 2)) (Esser et al. 2024)."""
    angle = _falling(num_steps) * torch.pi / 2
    return _ended(angle.sin() / (angle.sin() + angle.cos()))


@register("sampler/grid", "karras")
def karras(num_steps: int, /, rho: Positive[float], last: Last) -> Levels:
    """Karras et al. 2022, eq. 5: 1 to `last`, then 0; on noise levels, as diffusers does for flows."""
    ramp = torch.linspace(1, 0, num_steps, dtype=torch.float64)
    end = last ** (1 / rho)
    return _ended(torch.cat([(end + ramp * (1 - end)) ** rho, torch.zeros(1)]))


@register("sampler/grid", "exponential")
def exponential(num_steps: int, /, last: Last) -> Levels:
    """Equal ratios from 1 to `last`, then 0."""
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    return _ended(torch.cat([last**ramp, torch.zeros(1)]))


@register("sampler/grid", "beta")
def beta(num_steps: int, /, a: Positive[float], b: Positive[float]) -> Levels:
    """Quantiles of Beta(a, b) (Lee et al. 2024, with a = b = .6)."""
    from scipy.special import betaincinv

    return _ended(torch.from_numpy(betaincinv(a, b, _falling(num_steps).numpy())))


@register("sampler/grid", "learned")
def learned(num_steps: int, /, path: Path) -> Levels:
    """What a search or an export left: a JSON list of num_steps + 1 levels, or a table of such lists by N."""
    return read_grid(path, num_steps)


@register("sampler/grid", "respaced")
def respaced(num_steps: int, /, spacing: Literal["even", "ddim"], *, scheduler: Scheduler) -> Levels:
    """Entries of the table of betas, as improved DDPM's `timestep_respacing` "250" and "ddim10" keep them.

    `even` is spread from the first entry to the last; `ddim` takes every k-th from the first (Song et al.
    2021), and so starts below 1. Float64, so that the network is told the entries themselves.
    """
    if not isinstance(scheduler, VariancePreserving):
        raise ValueError(
            "sampler/grid=respaced keeps entries of a table of betas, which scheduler=flow does not have; "
            "use sampler/grid=uniform"
        )
    size = scheduler.num_train_timesteps
    entries = (_even_entries if spacing == "even" else _ddim_entries)(num_steps, size)
    levels = scheduler.noise_level((torch.tensor(entries, dtype=torch.float64) + 1) / size)
    highest = scheduler.noise_level(torch.ones(1, dtype=torch.float64))
    return torch.cat([levels.flip(0) / highest, torch.zeros(1)])


def _even_entries(num_steps: int, size: int) -> list[int]:
    if not 1 < num_steps <= size:
        raise ValueError(
            f"sampler.num_steps={num_steps} cannot be spread over {size} entries; use 2 to {size}"
        )
    stride = (size - 1) / (num_steps - 1)
    return [round(place) for place in accumulate(repeat(stride, num_steps - 1), initial=0.0)]


def _ddim_entries(num_steps: int, size: int) -> list[int]:
    for stride in range(1, size):
        if len(entries := range(0, size, stride)) == num_steps:
            return list(entries)
    raise ValueError(
        f"sampler.num_steps={num_steps} is not what any whole stride through {size} entries takes; "
        "use another, or sampler.grid.spacing=even"
    )


def _shift(u: Tensor, shift: float) -> Tensor:
    return shift * u / (1 + (shift - 1) * u)


def _falling(num_steps: int) -> Tensor:
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)


def _ended(levels: Tensor) -> Levels:
    """Both ends exact, where rounding left them beside 1 and 0."""
    levels[0], levels[-1] = 1, 0
    return levels.float()
