"""Points of a plane, of which half are easy to reach from noise and half are hard: Gaussian mixtures."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.blend import KINDS, easy_and_hard
from tpdm.data.source import Endless
from tpdm.data.stored import parse_classes
from tpdm.registry import Positive, register
from tpdm.types import CondSpec, DataShape


@register("data", "mixture")
class MixtureData(Endless):
    """Each sample is a point, as an image of 1x2 pixels; the condition is whether it is an easy one or a
    hard one, equally often. Both splits are drawn from the same law, which `model=mixture` knows."""

    shape = DataShape(1, 1, 2)
    cond = CondSpec(slots=1, symbols=len(KINDS))

    def __init__(
        self,
        easy_std: Positive[float],
        components: Positive[int],
        radius: Positive[float],
        hard_std: Positive[float],
        *,
        split: str,
    ):
        self.blend = easy_and_hard(easy_std, components, radius, hard_std)

    def batch(
        self, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n 1 1 2"], Int[Tensor, "n 1"]]:
        label = torch.randint(len(KINDS), (n,), generator=generator)
        return self.blend.draw(label, generator)[:, None, None], label[:, None]

    def parse_labels(self, labels: list[str | int]) -> Int[Tensor, "n 1"]:
        """Kinds by their names or their numbers, one for each sample."""
        return parse_classes(labels, KINDS)
