"""Times chosen for each sample by the error of its own steps: adaptive, and nothing to train."""

from collections.abc import Callable, Sequence
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, Range, register
from tpdm.sampler.integrate import Step, integrate, name_of
from tpdm.sampler.step import Past, ab2, abm, ddim
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Condition, DenoiserLike, Prediction, Scheduler, Trajectory

SLOWEST, FASTEST = 0.2, 5.0  # a step's length over that of the one before it


@register("sampler", "error_controlled")
class ErrorControlledSampler:
    """Steps so long that AB2's would differ from DDIM's by the tolerance: the embedded estimate of first
    order (Hairer, Norsett & Wanner 1993, II.4), which takes no further call.

    The difference is the root mean square over a sample's elements, and grows with the square of the length.
    It is foreseen from the step before: no step is taken back. The first, which has none before it, takes
    the share `first` of the way. The step is a run's own (`own_step`) unless one is chosen.
    """

    def __init__(
        self,
        step: Callable[..., Tensor] | None,
        tolerance: Positive[float],
        first: Annotated[float, Range(above=0, below=1)],
        max_steps: Positive[int],
        t_min: Annotated[float, Range(above=0, below=1)],
        *,
        own_step: Step = abm,
    ):
        self.step = step or own_step
        self.tolerance, self.first = tolerance, first
        self.max_steps, self.t_min = max_steps, t_min

    @property
    def title(self) -> str:
        return f"{name_of(self.step)} by its error"

    def check(self, path: Scheduler) -> None:
        """Every path will do."""

    def __call__(
        self, denoiser: DenoiserLike, noise: Float[Tensor, "B C H W"], cond: Condition, seeds: Sequence[int]
    ) -> Trajectory:
        path = by_noise_level(denoiser.scheduler)

        def next_time(p: Prediction, t: Tensor, rows: Tensor, k: int, past: Past | None) -> Tensor:
            if past is None:
                return t * (1 - self.first)
            again = (2 * t - past.t).maximum(t / 2)  # about as long as the last step
            apart = ab2(path, p, t, again, past) - ddim(path, p, t, again, None)
            error = apart.square().flatten(1).mean(1).sqrt()
            growth = (self.tolerance / error).sqrt().clamp(SLOWEST, FASTEST)
            return t - growth.where(error > 0, 1.0) * (t - again)

        return integrate(denoiser, noise, cond, next_time, self.step, self.max_steps, self.t_min)
