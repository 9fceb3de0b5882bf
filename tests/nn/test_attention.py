from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from tpdm.nn import attention
from tpdm.nn.attention import Attention, CrossAttention, KeptAttention, attend, check_heads


def textbook(q, k, v, num_heads):
    """softmax(q k^T / sqrt(d)) v for each head (Vaswani et al. 2017, eq. 1), heads side by side."""
    heads = zip(*(x.chunk(num_heads, dim=-1) for x in (q, k, v)), strict=True)
    return torch.cat(
        [(a @ b.transpose(1, 2) / a.shape[-1] ** 0.5).softmax(-1) @ c for a, b, c in heads], dim=-1
    )


def test_self_attention_is_the_formula():
    layer, x = Attention(12, num_heads=3), torch.randn(2, 5, 12)
    expected = layer.proj(textbook(*layer.qkv(x).chunk(3, dim=-1), num_heads=3))
    torch.testing.assert_close(layer(x), expected)


def test_cross_attention_is_the_formula_over_a_condition_of_another_width():
    layer, x, cond = (
        CrossAttention(12, num_heads=3, cond_width=7),
        torch.randn(2, 5, 12),
        torch.randn(2, 4, 7),
    )
    expected = layer.proj(textbook(layer.q(x), *layer.kv(cond).chunk(2, dim=-1), num_heads=3))
    torch.testing.assert_close(layer(x, cond), expected)


@pytest.mark.parametrize("layer", [Attention(8, 2, dropout=0.5), CrossAttention(8, 2, 8, dropout=0.5)])
def test_dropout_acts_in_training_alone(layer):
    inputs = [torch.randn(2, 5, 8)] * (2 if isinstance(layer, CrossAttention) else 1)
    assert not torch.allclose(layer.train()(*inputs), layer(*inputs))
    assert torch.equal(layer.eval()(*inputs), layer(*inputs))


def test_dropout_keeps_the_mean():
    q, k, v = torch.ones(3, 4000, 1, 4, 2)
    assert attend(q, k, v, dropout=0.3).mean().item() == pytest.approx(1, abs=0.02)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"model.width=10 does not divide over model.num_heads=4"):
        check_heads("model", 10, 4)


def kept(q, k, v):
    return KeptAttention.apply(q * q.shape[-1] ** -0.5, k, v)


SIZES = st.integers(1, 9)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), SIZES, SIZES, SIZES),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    spread=st.sampled_from([0.1, 1.0, 4.0]),
    seed=st.integers(0, 99),
)
def test_kept_attention_is_torchs_in_value_and_gradient(sizes, dtype, spread, seed):
    b, heads, n, m, width = sizes
    torch.manual_seed(seed)
    shapes = ((b, n, heads, width), (b, m, heads, width), (b, m, heads, width))
    exact = [(spread * torch.randn(shape)).to(dtype).double().requires_grad_() for shape in shapes]
    rounded = [x.detach().to(dtype).requires_grad_() for x in exact]
    grad = torch.randn(b, heads, n, width).to(dtype)
    expected = scaled_dot_product_attention(*(x.transpose(1, 2) for x in exact))
    found = kept(*(x.transpose(1, 2) for x in rounded))
    expected.backward(grad.double())
    found.backward(grad)
    for ours, theirs in zip(
        [found, *(x.grad for x in rounded)], [expected, *(x.grad for x in exact)], strict=True
    ):
        tolerance = 40 * torch.finfo(dtype).eps * max(1.0, theirs.abs().max().item(), spread**2)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance)


def test_kept_attention_has_the_gradient_of_its_value():
    q, k, v = (torch.randn(2, 2, n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5, 5))
    assert torch.autograd.gradcheck(kept, (q, k, v))


@pytest.mark.parametrize("most", [0, 2**18])
def test_a_layer_in_training_is_the_formula_whether_or_not_it_keeps_its_weights(most):
    layer, x = Attention(12, num_heads=3).train(), torch.randn(2, 5, 12, requires_grad=True)
    expected = layer.proj(textbook(*layer.qkv(x).chunk(3, dim=-1), num_heads=3))
    with patch.object(attention, "MOST_KEPT", most):
        found = layer(x)
    torch.testing.assert_close(found, expected)
    inputs = (x, *layer.parameters())
    pairs = zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
