"""Features as a backbone would show them, and the sizes it would name."""

import torch

from tpdm.types import Features, FeatureSpec

SPEC = FeatureSpec(width=12, temb_width=10, text_width=6, hw=(2, 4))


def random_features(count: int, seed: int = 0, text: bool = True) -> Features:
    generator = torch.Generator().manual_seed(seed)
    first, last = torch.randn(2, count, 8, SPEC.width, generator=generator)
    temb = torch.randn(count, SPEC.temb_width, generator=generator)
    tokens = torch.randn(count, 3, 6, generator=generator) if text else None
    return Features(first, last, temb, tokens, SPEC.hw)
