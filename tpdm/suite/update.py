"""One update of a predictor's training, timed: ours, the plain way, and what its network rows alone take."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpdm.suite.plain import plain_improve, plain_rollout
from tpdm.suite.rollout import Recorded, check_same_work, stopped
from tpdm.suite.transformer import Mode, Workload
from tpdm.types import Condition, Rollout

CALLS = 2  # of a full batch, on either side of an update, by which the time of a row is measured


class Updates:
    """A transformer, the trainer of a predictor on it, and a second predictor that learns the plain way."""

    def __init__(self, workload: Workload, mode: Mode, folder: Path):
        self.device, network = workload.device, workload.network(mode)
        self.trainer, self.backbone = workload.trainer(network, folder / mode)
        self.predictor = copy.deepcopy(self.trainer.predictor)
        self.optimizer, _ = workload.optimizer(self.predictor.parameters(), self.trainer.max_steps)
        self.passes = 1 if workload.guidance_scale == 1 else 2
        full = self.passes * self.trainer.prompts * self.trainer.samples
        self.full = workload.inputs(full)
        self.evaluated = self.rows = 0
        network.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """A hook: adds the rows that the network is given."""
        self.evaluated += len(kwargs["hidden_states"])

    def ours(self, k: int) -> tuple[Rollout, dict[str, float]]:
        """Seconds of update `k`, of its rollout alone, and of as many rows in full batches."""
        trainer, generator = self.trainer, self.trainer.stage.generator(k)
        before, self.evaluated = self.row(), 0
        (rollout, _), explored = stopped(lambda: trainer.explore(generator), self.device)
        self.rows = self.evaluated
        assert self.rows == self.passes * rollout.trajectory.nfe.sum(), (
            "other rows than those alive were evaluated"
        )

        def improve() -> None:
            trainer.improve(rollout, self.advantage(rollout.trajectory.nfe, k), k, generator)

        _, improved = stopped(improve, self.device)
        row = (before + self.row()) / 2
        return rollout, {"rollout": explored, "update": explored + improved, "rows": self.rows * row}

    def plain(self, k: int, rollout: Rollout) -> float:
        """Seconds of the same update with finished samples in the batch, whole features, and one sample at a
        time."""
        noise, cond = self.start(k)
        draw = Recorded(rollout.ratio)

        def update() -> None:
            parts = (self.trainer.sampler, self.predictor.eval(), self.trainer.denoiser)
            walkers = plain_rollout(*parts, noise, cond, draw)
            check_same_work(rollout, walkers)
            nfe = torch.tensor([walker.nfe for walker in walkers], device=self.device)
            advantage = self.advantage(nfe, k)
            plain_improve(self.predictor.train(), self.optimizer, walkers, advantage, self.trainer)

        return stopped(update, self.device)[1]

    def advantage(self, nfe: Tensor, k: int) -> Tensor:
        images = torch.zeros(len(nfe), device=self.device)
        return self.trainer.compare(self.trainer.reward.cost(images, nfe), k)

    def start(self, k: int) -> tuple[Tensor, Condition]:
        """What `explore` picks for update `k`."""
        trainer, pool = self.trainer, self.trainer.pool
        index = torch.randint(len(pool.cond), (trainer.prompts,), generator=trainer.stage.generator(k))
        noise, cond, _, _ = pool.pick(index, trainer.samples, self.device)
        return noise, cond

    @torch.no_grad()
    def row(self) -> float:
        """Seconds of the network for a row of a full batch."""

        def calls() -> None:
            for _ in range(CALLS):
                self.backbone(*self.full)

        return stopped(calls, self.device)[1] / (CALLS * len(self.full.timestep))
