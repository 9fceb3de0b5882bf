"""Blends of Gaussians against what they are the closed form of."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from tpdm.blend import easy_and_hard

BLEND = easy_and_hard(0.8, 3, 1.2, 0.2)
LABELS = torch.arange(3).repeat(20)  # easy, hard, neither said
X = 1.5 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
LEVELS = torch.rand(60, 2, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05
ALPHA, SIGMA = LEVELS.unbind(1)


def law(label, alpha, sigma):
    """torch's own mixture of alpha x0 + sigma eps."""
    variance = (alpha * BLEND.std) ** 2 + sigma**2
    parts = MultivariateNormal(alpha * BLEND.mean, variance[:, None, None] * torch.eye(2))
    return MixtureSameFamily(Categorical(logits=BLEND.share[label].log()), parts)


def test_the_density_is_that_of_torchs_mixture():
    found = BLEND.posterior(X, ALPHA, SIGMA, LABELS).log_density
    rows = zip(X, ALPHA, SIGMA, LABELS, strict=True)
    expected = torch.stack([law(label, a, s).log_prob(x) for x, a, s, label in rows])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_noise_is_minus_sigma_times_the_gradient_of_the_log_density():
    x = X.clone().requires_grad_(True)
    known = BLEND.posterior(x, ALPHA, SIGMA, LABELS)
    (score,) = torch.autograd.grad(known.log_density.sum(), x)
    torch.testing.assert_close(known.eps, -SIGMA[:, None] * score, atol=1e-5, rtol=1e-4)


def test_both_means_make_the_state():
    known = BLEND.posterior(X, ALPHA, SIGMA, LABELS)
    again = ALPHA[:, None] * known.x0 + SIGMA[:, None] * known.eps
    torch.testing.assert_close(again, X, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_mean_is_that_of_draws_weighed_by_how_well_they_explain_the_state(label):
    """Self-normalised importance sampling from the prior."""
    x, alpha, sigma = torch.tensor([[0.4, -0.3]]), torch.tensor([0.6]), torch.tensor([0.5])
    x0 = BLEND.draw(torch.full((200_000,), label), torch.Generator().manual_seed(0))
    weight = (-((x - alpha * x0).square().sum(1)) / (2 * sigma**2)).softmax(0)
    known = BLEND.posterior(x, alpha, sigma, torch.tensor([label]))
    torch.testing.assert_close(known.x0[0], weight @ x0, atol=0.01, rtol=0)


def test_draws_have_the_shares_and_the_spread_that_their_kind_has():
    generator = torch.Generator().manual_seed(0)
    easy, hard = (BLEND.draw(torch.full((20_000,), label), generator) for label in (0, 1))
    assert easy.std(0).tolist() == pytest.approx([0.8, 0.8], rel=0.03)
    nearest = torch.cdist(hard, BLEND.mean[1:]).min(1)
    assert (nearest.indices.bincount() / len(hard)).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert nearest.values.square().mean().sqrt().item() == pytest.approx(0.2 * math.sqrt(2), rel=0.03)


def test_which_component_is_told_surely_where_there_is_little_noise():
    near = BLEND.mean[1:] + 0.05
    one = torch.ones(3)
    belongs = BLEND.posterior(near, one, 0.01 * one, torch.ones(3, dtype=torch.long)).belongs
    torch.testing.assert_close(belongs[:, 1:], torch.eye(3), atol=1e-4, rtol=0)
    assert not belongs[:, 0].any()
