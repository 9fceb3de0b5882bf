"""What takes part: an idea of where to step, and what it sends in for a budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from tpdm.evaluation.result import Run
from tpdm.sampler.grid import Levels

if TYPE_CHECKING:
    from tpdm.arena.camp import Camp
    from tpdm.arena.ring import Ring

Kind = Literal["static", "adaptive", "bound"]  # one schedule for all; one for each; nobody can reach it


class Share(NamedTuple):
    """A part of all samples, and the sampler that draws it."""

    weight: float
    run: Run


@dataclass(frozen=True)
class Entry:
    """Samplers that together make the calls that a budget allows on average.

    Where no single one does, a share of the samples goes to each: results are the shares' means.
    """

    shares: Sequence[Share]
    found: Mapping[str, Any]  # what was found, for a reader: grids as lists of levels, knobs by their names
    seconds: float  # that finding it took


@dataclass(frozen=True)
class Outcome:
    """What an entry made of the evaluation set, sample by sample."""

    nfe: Float[Tensor, "B"]
    error: Float[Tensor, "B"]  # squared, mean over the state, against the end of the exact ODE
    t: Float[Tensor, "B K+1"]  # times of the first share
    scores: Mapping[str, float]  # of the images alone
    found: Mapping[str, Any]
    seconds: float


class Contestant(ABC):
    """One file of this package registers one idea: `@register("arena", "name")`, and conf/arena/name.yaml.

    It is a frozen dataclass, whose fields are its choices: they tell its results from those of others.
    """

    kind: ClassVar[Kind] = "adaptive"

    def leans_on(self) -> tuple[str, ...]:
        """Other contestants whose results it starts from, by their names in the arena."""
        return ()

    @property
    def adapts(self) -> bool:
        """Whether it places the steps of each sample by itself, in whichever set that is."""
        return self.kind == "adaptive" and not self.leans_on()

    def check(self, name: str, others: Mapping[str, Contestant]) -> None:
        """Raises ValueError, naming its key, where one that it leans on is not in the arena."""
        for other in self.leans_on():
            if other not in others:
                accepted = ", ".join(others)
                raise ValueError(
                    f"suite.contestants.{name} leans on {other}, which is no contestant; accepted: {accepted}"
                )

    def absent(self, camp: Camp, target: int) -> str | None:
        """Why it cannot take part in this run, or at this budget; None where it can."""
        return None

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        """About how many denoiser calls it makes to find what it plays at these budgets."""
        return 0

    def playing(self, target: int) -> int:
        """About how many it makes for a sample that it plays."""
        return target

    def leave(self, camp: Camp, path: Path) -> bool:
        """Writes into the folder `path` what others can sample with, where that is more than grids, and says
        whether it did."""
        return False

    def grids(self, ring: Ring, targets: Sequence[int]) -> Mapping[int, Levels]:
        """By their numbers of steps, what it found at these budgets that is the same for all samples."""
        return {}

    @abstractmethod
    def enter(self, ring: Ring, target: int) -> Entry:
        """Its samplers at a mean of `target` calls, found at the ring's camp.

        Only a bound may look at what others made of the evaluation set's errors.
        """


class Schedule(Contestant):
    """The run's own step along levels that are the same for all. Such a one can be the baseline."""

    kind: ClassVar[Kind] = "static"

    @abstractmethod
    def find(self, camp: Camp, num_steps: int) -> tuple[Levels, float]:
        """Levels of so many steps, and the seconds that finding them took."""

    def enter(self, ring: Ring, target: int) -> Entry:
        levels, seconds = self.find(ring.camp, target)
        times = ring.camp.runner.t_max * levels
        return Entry([Share(1.0, ring.along(times))], {"levels": [levels.tolist()]}, seconds)

    def grids(self, ring: Ring, targets: Sequence[int]) -> Mapping[int, Levels]:
        return {target: self.find(ring.camp, target)[0] for target in targets}
