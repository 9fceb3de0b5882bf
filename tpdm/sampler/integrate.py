"""The walk from noise to data when every sample has its own times. A finished sample leaves the batch."""

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.sampler.step import Past, remember
from tpdm.scheduler.path import by_noise_level, retimed
from tpdm.types import Condition, DenoiserLike, Prediction, Trajectory

Step = Callable[..., Tensor]


def name_of(step: Step) -> str:
    """The name that a step has in a config, which hands it over as a partial."""
    return str(getattr(step, "func", step).__name__)


class NextTime(Protocol):
    """Chooses where the rows still alive go next: what is predicted at their t, which samples they are, k,
    and what was predicted a step before."""

    def __call__(
        self, p: Prediction, t: Float[Tensor, "R"], rows: Int[Tensor, "R"], k: int, past: Past | None
    ) -> Float[Tensor, "R"]: ...


@torch.no_grad()
def integrate(
    denoiser: DenoiserLike,
    noise: Float[Tensor, "B C H W"],
    cond: Condition,
    next_time: NextTime,
    step: Step,
    max_steps: int,
    t_min: float = 0.0,
    residual: bool = False,
) -> Trajectory:
    """Runs every sample until its next time falls below `t_min`, which becomes 0, or to 0 at `max_steps`.

    With `residual` that last step goes to the time that was chosen, whose noise stays in the sample; it is
    told as 0 all the same. Times are noise levels, whatever the path. The network only ever sees the rows
    still alive.
    """
    denoiser, path = retimed(denoiser), by_noise_level(denoiser.scheduler)
    times = noise.new_zeros(len(noise), max_steps + 1)
    times[:, 0] = path.t_max
    end = torch.empty_like(noise)
    rows = torch.arange(len(noise), device=noise.device)
    x, past = noise, None

    for k in range(max_steps):
        t = times[rows, k]
        p = denoiser(x, t, cond)
        last = k + 1 == max_steps
        chosen = next_time(p, t, rows, k, past) if residual or not last else torch.zeros_like(t)
        t_next = torch.where((chosen < t_min) | last, 0.0, chosen)
        x = step(path, p, t, chosen if residual else t_next, past)
        past = remember(p, t, past)
        times[rows, k + 1] = t_next

        finished = t_next == 0
        if finished.any():
            end[rows[finished]] = x[finished]
            keep = ~finished
            rows, x, cond, past = rows[keep], x[keep], cond[keep], past.of(keep)
        if len(rows) == 0:
            break

    times = times[:, : k + 2]
    alive = times[:, :-1] > 0
    return Trajectory(end, times, alive, alive.sum(1))


def follow(times: Float[Tensor, "B K+1"]) -> NextTime:
    """Visits times that are known beforehand, a row of them per sample."""
    return lambda p, t, rows, k, past: times[rows, k + 1]
