"""Trains a Time Predictor on a frozen denoiser: explore, compare, take clipped steps (TPDM, algorithm 1)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta

from tpdm.objective.kl import kl, schedule_beta
from tpdm.objective.ppo import importance_ratio, ppo_clip
from tpdm.objective.rloo import rloo, standardise, standardise_alike
from tpdm.optimizer import Optimizer
from tpdm.registry import Fraction, NonNegative, Positive, Range, register
from tpdm.reward.weighted import Reward
from tpdm.runtime.memory import memory_for
from tpdm.sampler.adaptive import AdaptiveSampler, sample
from tpdm.sampler.replay import Replay, select
from tpdm.trainer.pool import Pool
from tpdm.trainer.stage import Stage, Stateful
from tpdm.trainer.watch import Watch
from tpdm.types import CostRange, DenoiserLike, Rollout


class Judged(NamedTuple):
    """What the images of an update are worth: to the reward that is trained on, and to one that is not."""

    reward: Float[Tensor, "B"]
    held_out: Float[Tensor, "B"] | None


@register("trainer", "predictor")
class PredictorTrainer:
    """One update explores with `samples` trajectories for each of `prompts` conditions (per process), then
    takes `epochs` passes over them in `minibatches` parts. At most `replay_rows` steps of a part are scored
    at once, so that memory does not grow with the steps; None: all of them.

    `share_noise` starts the samples of a condition from one noise, so that they differ by their times alone.
    `costs` is the range of a predictor that is told what a step costs: every condition of an update gets one.
    `guard` is what happens where the reward rises over `guard_window` updates while `held_out` falls.
    """

    trains = "predictor"

    def __init__(
        self,
        max_steps: Positive[int],
        prompts: Positive[int],
        samples: Annotated[int, Range(min=2)],
        share_noise: bool,
        pool_size: Positive[int],
        reference_steps: Positive[int],
        epochs: Positive[int],
        minibatches: Positive[int],
        replay_rows: Positive[int] | None,
        clip: Positive[float],
        advantage_clip: Positive[float],
        entropy: NonNegative[float],
        kl: NonNegative[float],
        kl_num_steps: Positive[int],
        kl_sharpness: NonNegative[float],
        clip_norm: Positive[float],
        max_left_out: Fraction[float],
        guard: Literal["off", "warn", "stop"],
        guard_window: Annotated[int, Range(min=4)],
        report_every: Positive[int],
        save_every: Positive[int],
        *,
        predictor: nn.Module,
        denoiser: DenoiserLike,
        sampler: AdaptiveSampler,
        reward: Reward,
        held_out: Reward | None,
        decode: Callable[[Tensor], Tensor],
        pool: Pool,
        optimizer: Callable[..., Optimizer],
        stage: Stage,
        costs: CostRange | None = None,
    ):
        check_minibatches(minibatches, prompts * samples)
        self.max_steps, self.prompts, self.samples = max_steps, prompts, samples
        self.epochs, self.minibatches = epochs, minibatches
        self.clip, self.advantage_clip = clip, advantage_clip
        self.entropy, self.kl, self.kl_num_steps, self.kl_sharpness = entropy, kl, kl_num_steps, kl_sharpness
        self.clip_norm, self.report_every, self.save_every = clip_norm, report_every, save_every
        self.denoiser, self.sampler, self.decode = denoiser, sampler, decode
        self.reward, self.held_out, self.costs = reward, held_out, costs
        self.watch = Watch(max_left_out, guard_window, guard)
        self.memory = memory_told(prompts, samples, minibatches, replay_rows)
        self.stage, self.accelerator = stage, stage.accelerator
        self.pool = pool
        self.predictor = predictor.to(self.accelerator.device)
        self.optimizer, self.lr = optimizer(self.predictor.parameters(), max_steps)
        replay = Replay(self.predictor, replay_rows)
        self.replayed = self.accelerator.prepare_model(replay)  # sums gradients over processes

    @staticmethod
    def check(choices: Mapping[str, Any], ranks: int) -> None:
        """Refuses, before a run exists, what the constructor would refuse."""
        check_minibatches(choices["minibatches"], choices["prompts"] * choices["samples"])

    def fit(self) -> dict[str, Tensor]:
        """Trains to `max_steps`, from the newest checkpoint if there is one; returns the weights."""
        parts: dict[str, Stateful] = {
            "predictor": self.predictor,
            "optimizer": self.optimizer,
            "lr": self.lr,
            "watch": self.watch,
        }
        for step in self.stage.steps(self.max_steps, self.save_every, parts):
            self.report(step, *self.update(step))
        return self.predictor.state_dict()

    def update(self, step: int) -> tuple[Rollout, Judged, dict[str, Tensor]]:
        """Explores, compares, and learns from it; what was seen on the way."""
        generator = self.stage.generator(step)
        with memory_for(*self.memory["explore"]):
            rollout, judged = self.explore(generator)
        told = () if rollout.cost is None else (rollout.cost,)
        worth = self.reward.cost(judged.reward, rollout.trajectory.nfe, *told)
        advantage = self.compare(worth, step, rollout.cost)
        with memory_for(*self.memory["improve"]):
            stats = self.improve(rollout, advantage, step, generator)
        return rollout, judged, stats

    @torch.no_grad()
    def explore(self, generator: torch.Generator) -> tuple[Rollout, Judged]:
        """A fresh rollout of prompts * samples trajectories, and what their images are worth."""
        index = torch.randint(len(self.pool.cond), (self.prompts,), generator=generator)
        noise, cond, target, prompts = self.pool.pick(index, self.samples, self.accelerator.device)
        self.predictor.eval()
        cost = self.draw_costs(generator)
        rollout = self.sampler.rollout(
            self.predictor, self.denoiser, noise, cond, sample(generator), cost=cost
        )
        x0 = self.decode(rollout.trajectory.x0)
        target = None if target is None else self.decode(target)
        held_out = None if self.held_out is None else self.held_out(x0, cond, target, prompts)
        return rollout, Judged(self.reward(x0, cond, target, prompts), held_out)

    def draw_costs(self, generator: torch.Generator) -> Float[Tensor, "B"] | None:
        """Log-uniform, the same for the samples of a prompt; one in each of `prompts` parts of the range."""
        if self.costs is None:
            return None
        part = torch.randperm(self.prompts, generator=generator)
        share = (part + torch.rand(self.prompts, generator=generator)) / self.prompts
        return self.costs.at(share).repeat_interleave(self.samples).to(self.accelerator.device)

    def compare(
        self, worth: Float[Tensor, "B"], step: int, cost: Float[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B"]:
        """Advantages of trajectories within their groups, the samples of one prompt.

        A group with an image that could not be judged is left out: its advantage is 0, and the others' make
        up for its part in the mean.
        """
        groups = worth.unflatten(0, (self.prompts, self.samples))
        complete = groups.isfinite().all(1)
        if fault := self.watch.count(~self.accelerator.gather(complete)):
            raise self.stage.not_finite(fault, step)
        advantage = torch.zeros_like(groups)
        judged = rloo(groups[complete])
        if cost is None:
            judged = standardise(judged, self.advantage_clip)
        else:
            log_cost = cost.unflatten(0, groups.shape)[complete, 0].log()
            judged = standardise_alike(judged, log_cost, self.advantage_clip)
        advantage[complete] = judged * (self.prompts / max(len(judged), 1))
        return advantage.flatten()

    def improve(
        self, rollout: Rollout, advantage: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Takes `epochs` passes over one rollout; means of what was seen on the way."""
        self.predictor.train()
        parts = [(select(rollout, rows), advantage[rows]) for rows in self.split(len(advantage), generator)]
        seeds = [self.stage.step_seed(step) + 2 + part for part in range(len(parts))]  # 1 is `generator`
        with torch.no_grad():  # scored as the update will score them: the first importance ratio is exactly 1
            old = [self.score(part, seed)[1] for (part, _), seed in zip(parts, seeds, strict=True)]
        seen = []
        for _ in range(self.epochs):
            for (part, part_advantage), old_log_prob, seed in zip(parts, old, seeds, strict=True):
                loss, stats = self.surrogate(part, part_advantage, old_log_prob, seed)
                self.stage.check_finite(loss, step)
                self.accelerator.backward(loss)
                norm = nn.utils.clip_grad_norm_(self.predictor.parameters(), self.clip_norm)
                self.stage.check_finite(norm, step, "gradient norm")
                self.optimizer.step()
                self.optimizer.zero_grad()
                seen.append(stats | {"grad_norm": norm})
        self.lr.step()
        return {name: torch.stack([stats[name] for stats in seen]).mean() for name in seen[0]}

    def score(self, rollout: Rollout, seed: int) -> tuple[Beta, Tensor]:
        """Replayed under one dropout mask before and after: weights alone move the importance ratio."""
        torch.manual_seed(seed)
        return self.replayed(rollout)

    def surrogate(
        self, rollout: Rollout, advantage: Tensor, old_log_prob: Tensor, seed: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Clipped surrogate, less an entropy bonus, plus KL to the reference schedule.

        Entropy and KL are sums over a trajectory's steps.
        """
        dist, log_prob = self.score(rollout, seed)
        loss = ppo_clip(log_prob, old_log_prob, advantage, self.clip).mean()
        entropy = dist.entropy().sum() / len(advantage)
        loss = loss - self.entropy * entropy
        if self.kl > 0:
            reference = schedule_beta(times(rollout), self.kl_num_steps, self.kl_sharpness)
            loss = loss + self.kl * kl(dist, reference).sum() / len(advantage)
        with torch.no_grad():
            importance = importance_ratio(log_prob, old_log_prob)
            clipped = ((importance - 1).abs() > self.clip).float()
            stats = {
                "loss": loss,
                "importance": importance.mean(),
                "clip_share": clipped.mean(),
                "entropy": dist.entropy().mean(),
            }
        return loss, {name: value.detach() for name, value in stats.items()}

    def split(self, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Random parts of the trajectories, each in ascending order."""
        order = torch.randperm(count, generator=generator)
        return (part.sort().values.to(self.accelerator.device) for part in order.chunk(self.minibatches))

    def report(self, step: int, rollout: Rollout, judged: Judged, stats: dict[str, Tensor]) -> None:
        nfe = rollout.trajectory.nfe.float()
        means = {name: finite_mean(x) for name, x in judged._asdict().items() if x is not None}
        if self.held_out is not None:
            both = self.accelerator.reduce(torch.stack([means["reward"], means["held_out"]]), "mean")
            self.watch.compare(step, *both.tolist())
        seen = {**means, "nfe": nfe.mean(), "nfe_std": nfe.std(), **stats}
        values = {name: value.item() for name, value in seen.items()}
        values |= {"lr": float(self.lr.get_last_lr()[0]), "left_out": float(self.watch.left_out)}
        due = step % self.report_every == 0 or step + 1 == self.max_steps
        shown = ("reward", "nfe", "entropy", "importance", "clip_share")
        self.stage.report(step, values if due else {}, {name: values[name] for name in shown})
        if due:
            self.stage.tracker.histogram(step, "steps", nfe, self.stage.name)


def memory_told(
    prompts: int, samples: int, minibatches: int, replay_rows: int | None
) -> dict[str, tuple[str, str]]:
    """What each half of an update keeps in memory, and what halves that."""
    rows, parts = prompts * samples, f"predictor_trainer.minibatches={minibatches}"
    sizes = f"predictor_trainer.prompts={prompts} times predictor_trainer.samples={samples}"
    scored = f"the steps of {-(-rows // minibatches)} trajectories ({sizes}, over {parts})"
    remedy = f"predictor_trainer.minibatches={2 * minibatches} halves them"
    if replay_rows is not None:
        scored = f"{replay_rows} steps of trajectories (predictor_trainer.replay_rows={replay_rows})"
        remedy = f"predictor_trainer.replay_rows={replay_rows // 2 or 1} halves them"
    return {
        "explore": (
            f"{rows} trajectories ({sizes})",
            f"predictor_trainer.prompts={prompts // 2 or 1} halves them",
        ),
        "improve": (scored, remedy),
    }


def finite_mean(values: Tensor) -> Tensor:
    return values[values.isfinite()].mean()


def check_minibatches(minibatches: int, trajectories: int) -> None:
    if minibatches > trajectories:
        raise ValueError(
            f"predictor_trainer.minibatches={minibatches} is more than the {trajectories} trajectories of an "
            "update; use fewer, or more prompts or samples"
        )


def times(rollout: Rollout) -> Tensor:
    """The t of every drawn step, step-major like the features."""
    return rollout.trajectory.t[:, :-1].T[rollout.drawn.T]
