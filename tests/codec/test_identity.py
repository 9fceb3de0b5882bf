"""Pixels stay pixels."""

import torch

from tpdm.registry import build
from tpdm.types import DataShape


def test_identity_changes_nothing():
    codec = build("codec", {"name": "identity"})
    x, shape = torch.randn(2, 3, 8, 8), DataShape(3, 8, 8)
    assert codec.encode(x).equal(x)
    assert codec.decode(codec.encode(x)).equal(x)
    assert codec.shape_of(shape) == shape
