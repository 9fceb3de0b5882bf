"""diffusers' own solvers over any noise levels, on the flow path and on variance-preserving ones.

Their grids are replaced, never bent: a solver that reads sigmas gets ours, one that reads a table of
alphas_cumprod gets a table whose entries are our levels. A denoiser answers with both ends of the path, so
each solver is handed what it reads: the velocity eps - x0 on the flow path, x0 elsewhere (from an eps it
would divide by alpha, which is 5e-5 where the cosine path starts).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, register
from tpdm.sampler.grid import Grid
from tpdm.sampler.noise import step_generators
from tpdm.scheduler.flow import Flow
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Condition, DenoiserLike, Prediction, Scheduler, Trajectory


class Walk(NamedTuple):
    """One of diffusers' schedulers, set to walk down a list of noise levels."""

    scheduler: Any
    calls: Tensor  # the noise level of every denoiser call
    keys: Sequence[Any]  # what the scheduler's `step` is told at each of them
    exploding: bool = False  # its state is x / alpha
    stochastic: bool = False
    precise: bool = False  # its state is float64: it divides by alpha where that is nearly 0


@dataclass(frozen=True)
class Solver:
    """A solver's name and its forms on the two families of paths; None where it has no meaning.

    Its forms are told the noise levels of its calls: one for each of the `stages` of a step, but the last
    step has one alone.
    """

    name: str
    flow: Callable[[Tensor], Walk] | None
    variance_preserving: Callable[[Tensor], Walk]
    stages: int = 1

    def calls(self, levels: Float[Tensor, "N+1"]) -> Float[Tensor, "C"]:
        """The noise level of each, along a grid: stages behind the first ask where their step ends."""
        return torch.cat([levels[:1], levels[1:-1].repeat_interleave(self.stages)])

    def steps(self, calls: float) -> float:
        """As many as make a mean of so many calls."""
        return 1 + (calls - 1) / self.stages


@dataclass(frozen=True)
class FixedSampler:
    """Every sample visits the same noise levels: those of `grid`, scaled to where the path starts."""

    num_steps: int
    grid: Grid
    solver: Solver

    def __call__(
        self, denoiser: DenoiserLike, noise: Float[Tensor, "B C H W"], cond: Condition, seeds: Sequence[int]
    ) -> Trajectory:
        levels = by_noise_level(denoiser.scheduler).t_max * self.grid(self.num_steps)
        return self.along(levels, denoiser, noise, cond, seeds)

    @property
    def title(self) -> str:
        return self.solver.name

    def check(self, path: Scheduler) -> None:
        """Raises ValueError where the grid does not fall from 1 to 0, or the solver is not for this path."""
        self._walk(path, by_noise_level(path).t_max * self.grid(self.num_steps))

    @torch.no_grad()
    def along(
        self,
        levels: Float[Tensor, "N+1"],
        denoiser: DenoiserLike,
        noise: Float[Tensor, "B C H W"],
        cond: Condition,
        seeds: Sequence[int],
    ) -> Trajectory:
        """The same over given noise levels, which fall to 0."""
        walk = self._walk(denoiser.scheduler, levels.detach().cpu())
        sources = {"generator": step_generators(seeds)} if walk.stochastic else {}
        straight = isinstance(denoiser.scheduler, Flow)
        times = denoiser.scheduler.time_at(walk.calls).to(noise)  # a level rounded first would miss entries
        state = noise * (walk.scheduler.sigmas[0] ** 2 + 1) ** 0.5 if walk.exploding else noise
        state = state.double() if walk.precise else state
        for t, key in zip(times, walk.keys, strict=True):
            x = walk.scheduler.scale_model_input(state, key) if walk.exploding else state.to(noise)
            answer = _read(denoiser(x, t.expand(len(x)), cond), walk, straight)
            state = walk.scheduler.step(answer, key, state, return_dict=False, **sources)[0]
        return _trajectory(state.to(noise), levels, len(walk.calls))

    def _walk(self, path: Scheduler, levels: Tensor) -> Walk:
        if len(levels) < 2 or levels[-1] != 0 or (levels.diff() >= 0).any():
            raise ValueError(f"noise levels must fall to 0 step by step, got {levels.tolist()}")
        if not isinstance(path, Flow):
            return self.solver.variance_preserving(self.solver.calls(levels))
        if self.solver.flow is None:
            raise ValueError(
                f"sampler={self.solver.name} adds the noise of a variance-preserving chain, which "
                "scheduler=flow does not have; use scheduler=ddpm or another sampler"
            )
        return self.solver.flow(self.solver.calls(levels))


def _read(p: Prediction, walk: Walk, straight: bool) -> Tensor:
    if straight:
        return p.eps - p.x0
    if not walk.stochastic:
        return p.x0
    posterior = -torch.ones_like(p.x0)
    return torch.cat([p.x0, posterior if p.variance is None else p.variance], dim=1)


def _trajectory(x0: Tensor, levels: Tensor, num_calls: int) -> Trajectory:
    size, num_steps = len(x0), len(levels) - 1
    return Trajectory(
        x0=x0,
        t=levels.to(x0).expand(size, -1),
        alive=torch.ones(size, num_steps, dtype=torch.bool, device=x0.device),
        nfe=torch.full((size,), num_calls, device=x0.device),
    )


def _walk_on_flow(
    name: str,
    settings: dict[str, Any],
    calls: Tensor,
    highest: float = 1.0,
    lowest: float = 0.0,
    precise: bool = False,
) -> Walk:
    walk = _walk(name, settings, calls, sigmas=calls.double().clamp(max=highest), lowest=lowest)
    return walk._replace(precise=precise)


def _walk_elsewhere(
    name: str,
    settings: dict[str, Any],
    calls: Tensor,
    exploding: bool = False,
    lowest: float = 0.0,
    precise: bool = False,
) -> Walk:
    level = calls.double()
    walk = _walk(name, settings, calls, sigmas=level / (1 - level), lowest=lowest)
    return walk._replace(exploding=exploding, precise=precise)


def _walk(name: str, settings: dict[str, Any], calls: Tensor, sigmas: Tensor, lowest: float) -> Walk:
    scheduler = _made(name, settings)
    scheduler.set_timesteps(len(calls))  # its own grid, for the rest of its state
    scheduler.sigmas = F.pad(sigmas, (0, 1), value=lowest)
    scheduler.timesteps = calls  # only counted
    scheduler.set_begin_index(0)
    return Walk(scheduler, calls, calls.tolist())


def _walk_on_table(name: str, settings: dict[str, Any], calls: Tensor, stochastic: bool = False) -> Walk:
    """For solvers that look up integers: a chain as long as the grid, whose table holds the grid's levels."""
    level = calls.double()
    num_steps = len(level)
    scheduler = _made(name, settings | {"num_train_timesteps": num_steps, "clip_sample": False})
    scheduler.alphas_cumprod = ((1 - level) ** 2 / (level**2 + (1 - level) ** 2)).flip(0)
    scheduler.set_timesteps(num_steps)
    return Walk(scheduler, calls, range(num_steps - 1, -1, -1), stochastic=stochastic)


def _made(name: str, settings: dict[str, Any]) -> Any:
    import diffusers

    return getattr(diffusers, name)(**settings)


READS_VELOCITY = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
READS_X0 = {"prediction_type": "sample"}
DDIM = Solver(
    "ddim",
    flow=partial(_walk_on_flow, "FlowMatchEulerDiscreteScheduler", {}),
    variance_preserving=partial(_walk_on_table, "DDIMScheduler", READS_X0),
)
DDPM = Solver(
    "ddpm",
    flow=None,
    variance_preserving=partial(
        _walk_on_table, "DDPMScheduler", READS_X0 | {"variance_type": "learned_range"}, stochastic=True
    ),
)
EULER = Solver(
    "euler",
    flow=partial(_walk_on_flow, "FlowMatchEulerDiscreteScheduler", {}),
    variance_preserving=partial(_walk_elsewhere, "EulerDiscreteScheduler", READS_X0, exploding=True),
)
HEUN = Solver(
    "heun",
    flow=partial(_walk_on_flow, "FlowMatchHeunDiscreteScheduler", {}),
    variance_preserving=partial(_walk_elsewhere, "HeunDiscreteScheduler", READS_X0, exploding=True),
    stages=2,
)
DPMPP_2M = Solver(
    "dpmpp_2m",
    flow=partial(_walk_on_flow, "DPMSolverMultistepScheduler", READS_VELOCITY),
    variance_preserving=partial(_walk_elsewhere, "DPMSolverMultistepScheduler", READS_X0),
)
UNIPC = Solver(
    "unipc",
    # its corrector solves a linear system in log(alpha / sigma), which is -inf at level 1
    flow=partial(_walk_on_flow, "UniPCMultistepScheduler", READS_VELOCITY, highest=1 - 1e-6),
    variance_preserving=partial(_walk_elsewhere, "UniPCMultistepScheduler", READS_X0),
)
ENDLESS: dict[str, Any] = {"lowest": 1e-6, "precise": True}  # log(sigma / alpha) has no end at either side
DEIS = Solver(
    "deis",
    flow=partial(_walk_on_flow, "DEISMultistepScheduler", READS_VELOCITY, highest=1 - 1e-6, **ENDLESS),
    variance_preserving=partial(_walk_elsewhere, "DEISMultistepScheduler", READS_X0, **ENDLESS),
)


@register("sampler", "ddim")
def ddim(num_steps: Positive[int], grid: Grid) -> FixedSampler:
    """Song et al. 2021, no noise added. On the flow path this is Euler's method, and served as such."""
    return FixedSampler(num_steps, grid, DDIM)


@register("sampler", "ddpm")
def ddpm(num_steps: Positive[int], grid: Grid) -> FixedSampler:
    """Ho et al. 2020, ancestral, on the chain that the grid makes.

    Its variance is learned (Nichol & Dhariwal 2021, eq. 15) where the denoiser has one, else the posterior's.
    """
    return FixedSampler(num_steps, grid, DDPM)


@register("sampler", "euler")
def euler(num_steps: Positive[int], grid: Grid) -> FixedSampler:
    """Euler's method on the velocity; elsewhere on d(x / alpha) / d(sigma / alpha) (Karras et al. 2022).

    That is DDIM again, with less precision: x / alpha is large in float32 where alpha is small.
    """
    return FixedSampler(num_steps, grid, EULER)


@register("sampler", "heun")
def heun(num_steps: Positive[int], grid: Grid) -> FixedSampler:
    """Heun's second-order method on the same derivatives (Karras et al. 2022, alg. 1): 2N - 1 calls.

    Off the flow path a step from sigma / alpha of 100 and more is far too long for it: give it the karras
    grid there, or many steps.
    """
    return FixedSampler(num_steps, grid, HEUN)


@register("sampler", "dpmpp_2m")
def dpmpp_2m(num_steps: Positive[int], grid: Grid) -> FixedSampler:
    """DPM-Solver++(2M) (Lu et al. 2022): second-order multistep on x0 in log(alpha / sigma)."""
    return FixedSampler(num_steps, grid, DPMPP_2M)


@register("sampler", "unipc")
def unipc(num_steps: Positive[int], grid: Grid) -> FixedSampler:
    """UniPC-2 (Zhao et al. 2023): a second-order multistep predictor, corrected at no further call."""
    return FixedSampler(num_steps, grid, UNIPC)


@register("sampler", "deis")
def deis(num_steps: Positive[int], grid: Grid) -> FixedSampler:
    """DEIS (Zhang & Chen 2022): second-order multistep on eps, interpolated in log(sigma / alpha)."""
    return FixedSampler(num_steps, grid, DEIS)
