import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.scheduler.paths import path
from tpdm.scheduler.path import expand
from tpdm.scheduler.variance import (
    discretised_log_likelihood,
    gaussian_kl,
    hybrid_loss,
    interpolated,
    normal_cdf,
    variational_bound,
)


def test_kl_is_that_of_torch():
    mean1, mean2, log1, log2 = torch.randn(4, 64)
    expected = kl_divergence(Normal(mean1, (log1 / 2).exp()), Normal(mean2, (log2 / 2).exp()))
    torch.testing.assert_close(gaussian_kl(mean1, log1, mean2, log2), expected)


@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 0.0, 1.0])
def test_the_256_bins_hold_all_the_mass(log_scale):
    pixels = torch.arange(256) / 127.5 - 1
    mean = torch.tensor([-1.2, -0.3, 0.0, 0.77, 1.0])[:, None]
    log_mass = discretised_log_likelihood(pixels, mean, torch.full((1, 1), log_scale))
    torch.testing.assert_close(log_mass.exp().sum(1), torch.ones(5), atol=2e-5, rtol=0)


def test_the_normal_distribution_is_approximated_as_published():
    x = torch.linspace(-5, 5, 1001)
    torch.testing.assert_close(normal_cdf(x), torch.special.ndtr(x), atol=2e-4, rtol=0)
    assert normal_cdf(torch.tensor(1.0)).item() == pytest.approx(
        0.5 + 0.5 * math.tanh(1.044715 * (2 / math.pi) ** 0.5)
    )


def test_a_bin_far_out_has_the_published_floor():
    far = discretised_log_likelihood(torch.tensor(0.9), torch.tensor(-0.9), torch.tensor(-5.0))
    assert far.item() == pytest.approx(math.log(1e-12))


def test_a_wide_bin_is_density_times_width():
    x, mean, log_scale = torch.tensor(0.1), torch.tensor(0.3), torch.tensor(0.0)
    expected = Normal(0.3, 1.0).log_prob(x) + math.log(2 / 255)
    torch.testing.assert_close(discretised_log_likelihood(x, mean, log_scale), expected, atol=1e-3, rtol=0)


def test_variance_interpolates_in_the_log_between_both_bounds():
    low, high = torch.tensor(-8.0), torch.tensor(-4.0)
    got = interpolated(torch.tensor([-1.0, 0.0, 1.0]), low, high)
    torch.testing.assert_close(got, torch.tensor([-8.0, -6.0, -4.0]))


def states(times):
    t = torch.tensor(times)
    x0, eps = torch.randn(2, len(t), 1, 4, 4, generator=torch.Generator().manual_seed(0))
    c = path("ddpm")(t)
    return x0.clamp(-1, 1), eps, t, expand(c.alpha, x0) * x0.clamp(-1, 1) + expand(c.sigma, x0) * eps


def test_bound_vanishes_for_the_true_posterior():
    """The true eps and the lower variance (output -1) are q itself; the upper one is at a known distance."""
    x0, eps, t, x = states([0.05, 0.3, 0.9])
    exact = variational_bound(path("ddpm"), x0, x, t, eps, -torch.ones_like(eps))
    torch.testing.assert_close(exact, torch.zeros(3), atol=1e-6, rtol=0)
    q = path("ddpm").posterior(t)
    gap = q.log_beta - q.log_variance
    expected = 0.5 * (gap - 1 + (-gap).exp()) / math.log(2)
    above = variational_bound(path("ddpm"), x0, x, t, eps, torch.ones_like(eps))
    torch.testing.assert_close(above, expected, atol=1e-6, rtol=1e-4)


def test_first_entry_is_a_likelihood_in_bits():
    x0, eps, t, x = states([0.001])
    got = variational_bound(path("ddpm"), x0, x, t, eps, -torch.ones_like(eps))
    log_scale = expand(path("ddpm").posterior(t).log_variance, x) / 2
    expected = -discretised_log_likelihood(x0, x0, log_scale).mean() / math.log(2)
    torch.testing.assert_close(got, expected[None], atol=1e-3, rtol=1e-3)


def test_hybrid_loss_trains_the_mean_by_mse_and_the_variance_by_the_bound():
    x0, eps, t, x = states([0.001, 0.2, 0.7])
    predicted = (eps + 0.1 * torch.randn_like(eps)).requires_grad_()
    fraction = torch.zeros_like(eps).requires_grad_()
    loss = hybrid_loss(path("ddpm"), x0, eps, x, t, torch.cat([predicted, fraction], 1))
    mse = (predicted - eps).square().flatten(1).mean(1)
    bound = variational_bound(path("ddpm"), x0, x, t, predicted, fraction)
    torch.testing.assert_close(loss, mse + bound)  # lambda T = 1
    by_mean, by_variance = torch.autograd.grad(loss.sum(), (predicted, fraction))
    torch.testing.assert_close(by_mean, torch.autograd.grad(mse.sum(), predicted)[0])
    assert (by_variance != 0).any()
