import pytest
import torch

from tpdm.nn.attention import Attention, CrossAttention, attend, check_heads


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
