"""A budget shared out over samples: more steps for those that are likely to need them."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tpdm.registry import build, register
from tpdm.sampler.allocation import Allocation, cheapest
from tpdm.sampler.integrate import Step
from tpdm.types import Condition, DenoiserLike, Scheduler, Trajectory

NEAR = 0.01  # calls, to which means are told


@register("sampler", "allocated")
class AllocatedSampler:
    """Draws by an allocation, as the arena leaves it in the folder `path`: a mean of `nfe` calls, or as many
    as are worth their price, the `cost` of a call in mean squared error; for no sample more than `max_nfe`.

    The mean is met on the samples that the allocation carries with it; others come near it. Where no price
    leads there, since more calls are foreseen to help nobody, the nearest mean below is taken, and told.
    Raises ValueError where neither budget is given, or both are, and where it was learned on another denoiser
    than the one that is `known_by` this: errors foreseen of one say nothing of another.
    """

    def __init__(
        self,
        path: str,
        *,
        known_by: Mapping[str, Any] | None = None,
        nfe: float | None = None,
        cost: float | None = None,
        max_nfe: int | None = None,
    ):
        self.allocation, made_by = Allocation.load(Path(path))
        check_learned_on(path, made_by, known_by)
        self.step: Step = build("sampler/step", {"name": made_by["step"]})
        self.most = min(max_nfe or self.allocation.most, self.allocation.most)
        if nfe is not None and cost is None:
            self.price = self.allocation.price(nfe, self.most)
            self.tell(nfe)
        elif cost is not None and nfe is None:
            self.price = cost
        else:
            given = "neither of them is" if nfe is None else "both of them are"
            raise ValueError(f"sampler=allocated shares out a budget, nfe=N or cost=C; {given} given")

    def tell(self, nfe: float) -> None:
        """Warns where the mean is not the one that was asked for."""
        met = cheapest(self.allocation.expected[: self.most], self.price).double().mean().item()
        if nfe - met > NEAR:
            instead = f"the nearest mean that a price of calls leads to is {met:.2f}"
            warnings.warn(f"nfe={nfe:g} is not reached by sampler=allocated; {instead}", stacklevel=1)

    @property
    def title(self) -> str:
        return "allocated"

    def check(self, path: Scheduler) -> None:
        """Every path will do."""

    def __call__(
        self, denoiser: DenoiserLike, noise: Float[Tensor, "B C H W"], cond: Condition, seeds: Sequence[int]
    ) -> Trajectory:
        return self.allocation.run(denoiser, noise, cond, self.step, self.price, self.most)


def check_learned_on(path: str, made_by: Mapping[str, Any], known_by: Mapping[str, Any] | None) -> None:
    """Raises ValueError where that is another denoiser, or it is asked in another way."""
    if known_by is None:
        raise ValueError(
            f"sampler.path={path} was learned on the denoiser of a run; accepted with it: that run alone, "
            "sample run=FOLDER"
        )
    for key, here in known_by.items():
        if made_by[key] != here:
            raise ValueError(
                f"sampler.path={path} was learned with {spoken(key, made_by[key])}, and here it is "
                f"{spoken(key, here)}; accepted: what evaluate suite=arena leaves for the same"
            )


def spoken(key: str, value: Any) -> str:
    """A choice as a command line has it; of a hash its beginning."""
    return f"a denoiser of sha256 {value[:12]}" if key == "denoiser" else f"{key}={value}"
