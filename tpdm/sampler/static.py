"""The steps that predictors choose the times of, over a grid that is the same for every sample."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, register
from tpdm.sampler.grid import Grid
from tpdm.sampler.integrate import Step, follow, integrate, name_of
from tpdm.sampler.step import abm
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Condition, DenoiserLike, Scheduler, Trajectory


@register("sampler", "static")
class StaticSampler:
    """What a searched schedule is drawn with: its levels were found for one of these steps, that of a run
    (`own_step`) unless another one is chosen."""

    def __init__(
        self,
        num_steps: Positive[int],
        grid: Grid,
        step: Callable[..., Tensor] | None,
        *,
        own_step: Step = abm,
    ):
        self.num_steps, self.grid = num_steps, grid
        self.step = step or own_step

    @property
    def title(self) -> str:
        return name_of(self.step)

    def check(self, path: Scheduler) -> None:
        """Raises ValueError where there is no such grid."""
        self.grid(self.num_steps)

    def __call__(
        self, denoiser: DenoiserLike, noise: Float[Tensor, "B C H W"], cond: Condition, seeds: Sequence[int]
    ) -> Trajectory:
        levels = by_noise_level(denoiser.scheduler).t_max * self.grid(self.num_steps)
        times = levels.to(noise).expand(len(noise), -1)
        return integrate(denoiser, noise, cond, follow(times), self.step, self.num_steps)
