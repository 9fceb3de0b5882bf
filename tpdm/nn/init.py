"""How layers start."""

from torch import nn


def xavier_linear(module: nn.Module) -> None:
    """For `apply`: Glorot's uniform weights and no bias in every Linear (ViT, DiT)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def zero(layer: nn.Linear | nn.Conv2d) -> None:
    """The layer answers 0, whatever it is asked."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
