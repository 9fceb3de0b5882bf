"""The text codec of data without text."""

from typing import Any, Literal

from torch import Tensor

from tpdm.registry import register


@register("codec/text", "labels")
class Labels:
    """Labels are the condition."""

    reads: Literal["labels", "captions"] = "labels"
    spec, vocabulary, null = None, None, None

    def __call__(self, cond: Any) -> Tensor:
        return cond

    def network(self) -> None:
        return None
