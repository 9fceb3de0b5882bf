"""A rollout's draws, scored again by a predictor that may have learned since."""

from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Beta
from torch.utils.checkpoint import checkpoint

from tpdm.sampler.adaptive import asked
from tpdm.types import KeptFeatures, Rollout, TimePredictor, Trajectory


class Replay(nn.Module):
    """Scores the stored ratios under a predictor: its Beta for every drawn row, step-major, and log p of each
    trajectory.

    All rows are one batch, or with `rows` at most that many at a time: the predictor's activations then do
    not grow with the rollout, since the backward pass computes those of each batch again, dropout included.
    """

    def __init__(self, predictor: TimePredictor, rows: int | None = None):
        super().__init__()
        self.predictor: Any = predictor
        self.rows = rows

    def forward(self, rollout: Rollout) -> tuple[Beta, Float[Tensor, "B"]]:
        kept = rollout.features
        assert kept is not None, "this rollout kept no features"
        step, row = rollout.drawn.T.nonzero(as_tuple=True)  # step-major, as the features were kept
        dist = self.score(kept, rollout.trajectory.t[row, step], rollout.cost, row)
        log_prob = dist.log_prob(rollout.ratio[row, step])
        return dist, log_prob.new_zeros(len(rollout.ratio)).index_add(0, row, log_prob)

    def score(
        self, kept: KeptFeatures, t: Float[Tensor, "R"], cost: Tensor | None, row: Int[Tensor, "R"]
    ) -> Beta:
        if self.rows is None or len(t) <= self.rows:
            return asked(self.predictor, kept.read(), t, cost, row)
        parts = [slice(start, start + self.rows) for start in range(0, len(t), self.rows)]
        read = [
            checkpoint(self.concentrations, kept[part], t[part], cost, row[part], use_reentrant=False)
            for part in parts
        ]
        concentration1, concentration0 = (torch.cat(each) for each in zip(*read, strict=True))
        return Beta(concentration1, concentration0, validate_args=False)

    def concentrations(self, kept: KeptFeatures, *told: Any) -> tuple[Tensor, Tensor]:
        dist = asked(self.predictor, kept.read(), *told)
        return dist.concentration1, dist.concentration0


def replay(predictor: TimePredictor, rollout: Rollout) -> tuple[Beta, Float[Tensor, "B"]]:
    """`Replay` in one batch."""
    return Replay(predictor)(rollout)


def select(rollout: Rollout, rows: Int[Tensor, "R"]) -> Rollout:
    """Some of a rollout's trajectories; `rows` ascend. Their features stay where they are."""
    chosen = torch.zeros(len(rollout.ratio), dtype=torch.bool, device=rows.device).index_fill(0, rows, True)
    row = rollout.drawn.T.nonzero()[:, 1]  # of each kept feature
    features = None if rollout.features is None else rollout.features[chosen[row]]
    trajectory = Trajectory(*(getattr(rollout.trajectory, f.name)[rows] for f in fields(Trajectory)))
    cost = None if rollout.cost is None else rollout.cost[rows]
    return Rollout(
        trajectory, rollout.ratio[rows], rollout.log_prob[rows], rollout.drawn[rows], features, cost
    )
