"""The exact answer for `data=mixture`, in the place of a network: nothing of it is trained."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from tpdm.blend import KINDS, Blend, easy_and_hard
from tpdm.nn.embed import fourier
from tpdm.registry import Positive, register
from tpdm.scheduler.path import raw_output
from tpdm.types import CondSpec, DataShape, Features, FeatureSpec, Scheduler, TextSpec

SHAPE, COND = DataShape(1, 1, 2), CondSpec(slots=1, symbols=len(KINDS))  # of data=mixture
TIME_WIDTH, MAX_FREQUENCY = 16, 10.0


@register("model", "mixture")
class Mixture(nn.Module):
    """Backbone: (x, timestep, kinds) -> the mean that a perfect network would answer with, and Features.

    It knows the path (`scheduler`) and the law of the data, so that trajectories have the errors of their
    steps and no others. It shows one token: the state and the kind first, at last both ends' means and which
    component x belongs to; the condition's token is the kind. Raises ValueError where the data are others, or
    a variance is asked for.
    """

    ready_made = True

    def __init__(
        self,
        easy_std: Positive[float],
        components: Positive[int],
        radius: Positive[float],
        hard_std: Positive[float],
        *,
        shape: DataShape,
        cond: CondSpec | TextSpec,
        scheduler: Scheduler,
        outputs: int = 1,
    ):
        super().__init__()
        if (shape, cond) != (SHAPE, COND):
            raise ValueError("model=mixture knows the points of data=mixture alone; use both, or neither")
        if outputs != 1:
            raise ValueError(
                f"model=mixture has no variance for scheduler.predicts={scheduler.predicts}; use eps or x0"
            )
        self.scheduler = scheduler
        for name, value in easy_and_hard(easy_std, components, radius, hard_std)._asdict().items():
            self.register_buffer(name, value)
        dims, kinds = self.get_buffer("mean").shape[1], len(self.get_buffer("share"))
        self.width = max(dims + kinds, 2 * dims + components + 1)
        self.features = FeatureSpec(self.width, TIME_WIDTH, kinds, (1, 1))

    @property
    def blend(self) -> Blend:
        """In float32, whatever the precision of what is kept."""
        return Blend(*(self.get_buffer(name).float() for name in Blend._fields))

    def forward(
        self, x: Float[Tensor, "B 1 1 2"], timestep: Float[Tensor, "B"], cond: Int[Tensor, "B 1"]
    ) -> tuple[Tensor, Features]:
        t, label, blend = self.scheduler.time_told(timestep.float()), cond[:, 0], self.blend
        path, state = self.scheduler(t), x.float().flatten(1)
        known = blend.posterior(state, path.alpha, path.sigma, label)
        raw = raw_output(self.scheduler.predicts, path, known.x0, known.eps).view(x.shape)

        kind = F.one_hot(label, len(blend.share)).float()
        first = self.token(state, kind)
        last = self.token(known.x0, known.eps, known.belongs)
        temb = fourier(t, TIME_WIDTH, MAX_FREQUENCY)
        shown = Features(first, last, temb, kind[:, None], self.features.hw)
        return raw, shown.map(lambda value: value.to(self.get_buffer("mean").dtype))

    def token(self, *parts: Float[Tensor, "B P"]) -> Float[Tensor, "B 1 D"]:
        joined = torch.cat(parts, dim=1)
        return F.pad(joined, (0, self.width - joined.shape[1]))[:, None]
