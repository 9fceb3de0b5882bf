"""Several rewards as one."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import ConfigError, build, choices, lookup, names, register
from tpdm.reward.classifier import CellClassifier
from tpdm.reward.cost import Cost
from tpdm.values import nearest

FREE = {"name": "linear", "cost": 0.0}  # steps are paid once, for the sum


class Reward(Protocol):
    """Images and what was asked for to one number each; `cost(reward, nfe)` is what a trainer maximises."""

    uses_target: bool  # whether `target` is read: the ODE's end point from the same noise
    uses_prompts: bool  # whether `prompts` are read: the captions themselves, a text for each image
    cost: Cost

    def __call__(
        self, x0: Tensor, cond: Any, target: Tensor | None, prompts: Sequence[str] | None = None
    ) -> Float[Tensor, "B"]: ...


@register("reward", "weighted")
class WeightedReward:
    """Weighted sum of rewards: their names to their weights.

    What has choices beside its cost stands under its name in `scorers`; the cost there is not read.
    `normalise` shifts and scales each reward, before it is weighted, to mean 0 and standard deviation 1 over
    the batch.
    """

    def __init__(
        self,
        terms: dict[str, float],
        scorers: dict[str, Callable[..., Reward]],
        normalise: Literal["none", "batch"],
        cost: Cost,
        *,
        classifier: CellClassifier | None,
        device: torch.device,
        key: str = "reward",
    ):
        refuse_unknown(terms, scorers, key)
        self.cost, self.normalise = cost, normalise
        facts: dict[str, Any] = {"classifier": classifier, "device": device}
        made = {name: scorer() for name, scorer in scorers.items() if name in terms}
        plain = {
            name: build("reward", {"name": name, "cost": FREE}, **facts) for name in terms if name not in made
        }
        self.terms: list[tuple[float, Reward]] = [
            (weight, (made | plain)[name]) for name, weight in terms.items()
        ]
        self.uses_target = any(term.uses_target for _, term in self.terms)
        self.uses_prompts = any(term.uses_prompts for _, term in self.terms)

    def __call__(
        self, x0: Tensor, cond: Any, target: Tensor | None, prompts: Sequence[str] | None = None
    ) -> Float[Tensor, "B"]:
        scores = ((weight, term(x0, cond, target, prompts)) for weight, term in self.terms)
        first, *others = (
            weight * (standard(score) if self.normalise == "batch" else score) for weight, score in scores
        )
        return sum(others, first)


def standard(score: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """To mean 0 and standard deviation 1 over what is finite; what is not stays as it is."""
    finite = score[score.isfinite()]
    if len(finite) < 2:
        return score - finite.mean() if len(finite) else score
    return (score - finite.mean()) / finite.std().clamp_min(1e-12)


def refuse_unknown(terms: dict[str, float], scorers: dict[str, Any], key: str) -> None:
    """Raises ConfigError for a term that nothing makes."""
    known = [name for name in names("reward") if name != "weighted"]
    if not terms:
        raise ConfigError(f"{key}.terms is empty; accepted: a weight for one or more of {', '.join(known)}")
    for name in terms:
        if name in scorers:
            continue
        if name not in known:
            near = nearest(name, known)
            raise ConfigError(f"{key}.terms.{name} is no reward{near}; accepted: {', '.join(known)}")
        if choices(lookup("reward", name)).keys() != {"cost"}:
            raise ConfigError(
                f"{key}.terms.{name} has choices; add them with +reward@{key}.scorers.{name}={name}"
            )
