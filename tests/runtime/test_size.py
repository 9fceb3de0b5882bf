"""Sizes against closed forms, against published ones, and fake tensors against real ones."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.tiny import COND, SHAPE, tiny_dit
from tpdm.model.dit import AdaLNZeroBlock, DiT
from tpdm.runtime.size import multiply_adds, saved_bytes, size_of
from tpdm.types import CondSpec, DataShape


def test_a_perceptron():
    """(R, 3) to (R, 5) to (R, 2): two products. Kept are the input and, once, the hidden layer."""
    rows, module = 7, nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(rows, 3)
    size = size_of(module, lambda: module(x))
    assert size.parameters == 3 * 5 + 5 + 5 * 2 + 2
    assert size.multiply_adds == rows * (3 * 5 + 5 * 2)
    assert size.saved_bytes == 4 * rows * (3 + 5)


def test_fake_tensors_count_like_real_ones():
    def size():
        dit = tiny_dit()
        x, t, cond = torch.zeros(2, *SHAPE), torch.zeros(2), torch.zeros(2, COND.slots, dtype=torch.long)
        return size_of(dit, lambda: dit(x, t, cond))

    real = size()
    with FakeTensorMode():
        assert size() == real
    assert min(real.parameters, real.multiply_adds, real.saved_bytes) > 0


def test_nothing_is_kept_where_nothing_is_trained():
    module = nn.Linear(3, 5).requires_grad_(False)
    x = torch.randn(2, 3)
    assert saved_bytes(module, lambda: module(x)) == 0


@pytest.mark.parametrize(
    ("width", "depth", "num_heads", "giga"),
    [(384, 12, 6, 6.06), (768, 12, 12, 23.01), (1024, 24, 16, 80.71), (1152, 28, 16, 118.64)],
)
def test_dit_is_as_large_as_published(width, depth, num_heads, giga):
    """Peebles & Xie 2023, table 4, whose Gflops are multiply-adds: ImageNet latents, learned variance."""
    with FakeTensorMode():
        shape, cond = DataShape(4, 32, 32), CondSpec(slots=1, symbols=1000)
        dit = DiT(width, depth, num_heads, 2, 1000.0, 0.1, AdaLNZeroBlock, shape=shape, cond=cond, outputs=2)
        x, t, label = torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, 1, dtype=torch.long)
        counted = multiply_adds(lambda: dit(x, t, label))
    assert counted / 1e9 == pytest.approx(giga, rel=1e-3)
    if width == 1152:  # what their code prints, fixed positions included
        assert sum(p.numel() for p in dit.parameters()) + dit.positions.numel() == 675_129_632
