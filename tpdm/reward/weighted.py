"""Several rewards as one."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from tpdm.registry import ConfigError, build, names, register
from tpdm.reward.classifier import CellClassifier
from tpdm.reward.cost import Cost
from tpdm.values import nearest

FREE = {"name": "linear", "cost": 0.0}  # steps are paid once, for the sum


class Reward(Protocol):
    """Images and their conditions to one number each; `cost(reward, nfe)` is what a trainer maximises."""

    uses_target: bool  # whether `target` is read: the ODE's end point from the same noise
    cost: Cost

    def __call__(self, x0: Tensor, cond: Tensor, target: Tensor | None) -> Float[Tensor, "B"]: ...


@register("reward", "weighted")
class WeightedReward:
    """Weighted sum of rewards that have no choices of their own: their names to their weights."""

    def __init__(self, terms: dict[str, float], cost: Cost, *, classifier: CellClassifier):
        refuse_unknown(terms)
        self.cost = cost
        self.terms: list[tuple[float, Reward]] = [
            (weight, build("reward", {"name": name, "cost": FREE}, classifier=classifier))
            for name, weight in terms.items()
        ]
        self.uses_target = any(term.uses_target for _, term in self.terms)

    def __call__(self, x0: Tensor, cond: Tensor, target: Tensor | None) -> Float[Tensor, "B"]:
        first, *others = (weight * term(x0, cond, target) for weight, term in self.terms)
        return sum(others, first)


def refuse_unknown(terms: dict[str, float]) -> None:
    known = [name for name in names("reward") if name != "weighted"]
    if not terms:
        raise ConfigError(f"reward.terms is empty; accepted: a weight for one or more of {', '.join(known)}")
    for name in terms:
        if name not in known:
            near = nearest(name, known)
            raise ConfigError(f"reward.terms.{name} is no reward{near}; accepted: {', '.join(known)}")
