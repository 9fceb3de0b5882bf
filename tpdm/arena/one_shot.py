"""A whole schedule for each sample, drawn at once from what the denoiser's first call shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Dirichlet

from tpdm.arena.camp import Camp, Found
from tpdm.arena.contestant import Contestant, Entry, Share
from tpdm.arena.ring import Ring
from tpdm.arena.static import problem_of
from tpdm.arena.store import Kept, described
from tpdm.evaluation.result import Run
from tpdm.optimizer import adam
from tpdm.registry import Positive, Range, register
from tpdm.sampler.allocation import pooled, units
from tpdm.sampler.grid import Levels
from tpdm.sampler.integrate import integrate
from tpdm.sampler.step import Past
from tpdm.search.problem import Problem
from tpdm.types import Condition, Prediction, Trajectory

CAP = 2.0  # by how much the logarithm of a concentration may leave the one that it starts at
SURE = 2.0  # standard errors of a gain that is believed


@register("arena", "one_shot")
@dataclass(frozen=True)
class OneShot(Contestant):
    """A Dirichlet over the shares of the way that N steps take, played at its mean.

    A small network reads its concentrations off the features of the first call (noise and condition), which
    every schedule makes at the same place, so that reading costs no call. It starts at the baseline's
    schedule, and is trained on `learning` for each N by itself, by the gradient of the error through the
    solver and the draw. That came closer to what is best for each condition than REINFORCE with siblings
    (`rloo`) did on more trajectories, and the more so the more steps there are. What counts and is trained on
    is the mean error of a batch: by each sample's logarithm most gain a little, and the worst lose more.

    A share of `learning` is held out. Where the gain there is no larger than chance may have made it, the
    baseline's schedule is played.
    """

    width: Positive[int]
    concentration: Positive[float]
    updates: Positive[int]
    batch_size: Positive[int]
    lr: Positive[float]
    held_out: Annotated[float, Range(above=0, below=1)]

    def absent(self, camp: Camp, target: int) -> str | None:
        return "one step leaves nothing to choose" if target == 1 else camp.absence(camp.baseline, target)

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        trained, judged = self.updates * self.batch_size, 2 * self.held_out * camp.sets.sizes.learning
        return round((trained + judged) * sum(targets))

    def enter(self, ring: Ring, target: int) -> Entry:
        found = self.find(ring.camp, target)
        run = ring.along(ring.camp.static_times(target))
        if found.numbers["better"]:
            run = run_by(ring.camp, kept_plan(found.tensors), target)
        seconds = found.seconds + ring.camp.static_seconds(target)
        return Entry([Share(1.0, run)], found.numbers, seconds)

    def find(self, camp: Camp, num_steps: int) -> Found:
        def learn() -> Kept:
            levels, size = (camp.static_times(num_steps) / camp.runner.t_max).cpu(), self.batch_size
            problem = problem_of(camp, camp.sets.learning)
            known = max(1, len(problem) - max(1, round(self.held_out * len(problem))))
            plan = self.learned(problem[: min(known, self.updates * size)], levels)
            before, after = errors(plan, problem[known:], levels, camp.sets.learning.batch_size)
            ratio = (after.mean() / before.mean()).item()
            told = {"better": sure(before - after), "held_out_ratio": ratio if math.isfinite(ratio) else None}
            return Kept(told, plan.state_dict())

        key = {"one_shot": described(self), "steps": num_steps, "of": camp.key(camp.baseline)}
        return camp.found(f"one_shot_{num_steps}", key, learn)

    def learned(self, problem: Problem, levels: Levels) -> Plan:
        """Trained on parts of the problem by turns, in the same way every time."""
        num_steps, parts = len(levels) - 1, split(problem, self.batch_size)
        shown = [first_look(part) for part in parts]
        mean, scale = units(torch.cat(shown))
        start = self.concentration * num_steps * -levels.diff()
        schedule = (self.lr, (0.9, 0.999), "cosine", 0, 0.0, 0.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(num_steps)
            plan = Plan(mean, scale, start, self.width)
            optimizer, rate = adam(plan.parameters(), self.updates, *schedule)
            for k in range(self.updates):
                error = parts[k % len(parts)].cost(falling(plan(shown[k % len(parts)]).rsample()))
                optimizer.zero_grad()
                loss = error.log()  # of the mean, so that hard batches weigh no more than easy ones
                loss.backward(inputs=list(plan.parameters()))
                optimizer.step()
                rate.step()
        return plan


class Plan(nn.Module):
    """What the first call shows -> a Dirichlet over the shares of the way that N steps take.

    It has the concentrations `start` for everybody before it is trained, and none ever leaves that by more
    than a factor of e^CAP, so that all steps have a length.
    """

    def __init__(
        self, mean: Float[Tensor, "F"], scale: Float[Tensor, "F"], start: Float[Tensor, "N"], width: int
    ):
        super().__init__()
        for name, value in {"mean": mean, "scale": scale, "start": start}.items():
            self.register_buffer(name, value)
        self.hidden, self.head = nn.Linear(len(mean), width), nn.Linear(width, len(start))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, shown: Float[Tensor, "B F"]) -> Dirichlet:
        mean, scale, start = (self.get_buffer(name) for name in ("mean", "scale", "start"))
        logits = self.head(nn.functional.silu(self.hidden((shown - mean) * scale)))
        return Dirichlet(start * (CAP * torch.tanh(logits / CAP)).exp(), validate_args=False)


def kept_plan(tensors: Mapping[str, Tensor]) -> Plan:
    """The one whose state this is."""
    plan = Plan(tensors["mean"], tensors["scale"], tensors["start"], len(tensors["hidden.bias"]))
    plan.load_state_dict(tensors)
    return plan


def run_by(camp: Camp, plan: Plan, num_steps: int) -> Run:
    """The sampler that asks the plan at its first call, and follows it."""

    def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
        times = torch.empty(0)

        def next_time(p: Prediction, t: Tensor, rows: Tensor, k: int, past: Past | None) -> Tensor:
            nonlocal times
            if k == 0:
                levels = falling(plan(pooled(p.features).cpu()).mean)
                times = camp.runner.t_max * torch.stack(levels, 1).to(noise)
            return times[rows, k + 1]

        return integrate(camp.runner.denoiser, noise, cond, next_time, camp.runner.step, num_steps)

    return run


def falling(shares: Float[Tensor, "B N"]) -> list[Float[Tensor, "B"]]:
    """Levels from 1 to 0, of which each step takes its share. They are summed up from the end, where they are
    small, so that none is lost to rounding."""
    left = shares.flip(1).cumsum(1).flip(1)
    one = left.new_ones(len(left))
    return [one, *left[:, 1:].unbind(1), one - 1]


@torch.no_grad()
def first_look(problem: Problem) -> Float[Tensor, "B F"]:
    """What is read off the first call."""
    shown = problem.denoiser(problem.noise, problem.times(1.0), problem.cond).features
    return pooled(shown).cpu()


@torch.no_grad()
def errors(
    plan: Plan, problem: Problem, levels: Levels, size: int
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Of each sample along `levels`, and along what the plan makes of it; so many at a time."""
    before, after = [], []
    for part in split(problem, size):
        before.append(part.errors(part.follow(levels)[-1].x))
        after.append(part.errors(part.follow(falling(plan(first_look(part)).mean))[-1].x))
    return torch.cat(before), torch.cat(after)


def sure(gain: Float[Tensor, "B"]) -> bool:
    """Whether chance hardly ever makes so large a mean of so many."""
    return len(gain) > 1 and bool(gain.mean() > SURE * gain.std() / len(gain) ** 0.5)


def split(problem: Problem, size: int) -> list[Problem]:
    return [problem[start : start + size] for start in range(0, len(problem), size)]
