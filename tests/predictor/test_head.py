import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.predictor.head import BetaHead

logits = st.floats(-3.5, 3.5)


def head(a=1.5, b=0.5, cap=4.0, epsilon=1.0):
    return BetaHead(8, (a, b), cap, epsilon)


@settings(max_examples=30, deadline=None)
@given(a=logits, b=logits)
def test_it_starts_at_the_given_logits_whose_difference_is_the_mode(a, b):
    dist = head(a, b)(torch.zeros(1, 8))
    torch.testing.assert_close(dist.concentration1, torch.tensor([1 + math.exp(a)]), rtol=1e-4, atol=0)
    torch.testing.assert_close(dist.concentration0, torch.tensor([1 + math.exp(b)]), rtol=1e-4, atol=0)
    torch.testing.assert_close(dist.mode, torch.sigmoid(torch.tensor([a - b])), rtol=1e-4, atol=0)


def test_all_samples_start_close_to_it():
    dist = head()(torch.randn(500, 8))
    for c, logit in ((dist.concentration1, 1.5), (dist.concentration0, 0.5)):
        assert ((c - 1).log() - logit).abs().max() < 0.2


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0])
def test_logits_are_capped_softly_and_epsilon_is_the_smallest_concentration(epsilon):
    layer = head(cap=2.0, epsilon=epsilon)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.stack([torch.ones(8), -torch.ones(8)]))
        dist = layer(torch.linspace(-100, 100, 201)[:, None].expand(-1, 8))
    for c in (dist.concentration1, dist.concentration0):
        assert c.min().item() == pytest.approx(epsilon + math.exp(-2))
        assert c.max().item() == pytest.approx(epsilon + math.exp(2))


def test_a_soft_cap_leaves_a_gradient_where_a_hard_one_would_not():
    layer = head(a=3.9)
    layer(torch.zeros(1, 8)).concentration1.sum().backward()
    assert layer.linear.bias.grad[0] > 1


def test_concentrations_stay_float32_when_the_network_around_them_does_not():
    """Rounded to bfloat16 they would move the importance ratio of a trajectory by percents."""
    layer, x = head(), torch.randn(4, 8)
    exact = layer(x).concentration1
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = layer(x).concentration1
    assert torch.equal(under_autocast, exact)


def test_logits_beyond_the_cap_are_refused():
    with pytest.raises(ValueError, match=r"predictor.init_logits=\[4.0, 0.5\] reach predictor.logit_cap=4"):
        head(a=4.0)
