import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Beta

from tpdm.objective.kl import kl, schedule_beta


@settings(deadline=None)
@given(t=st.floats(0.01, 1), num_steps=st.integers(1, 28), sharpness=st.floats(0.1, 100))
def test_the_reference_has_its_mode_at_the_next_uniform_time(t, num_steps, sharpness):
    dist = schedule_beta(torch.tensor([t]), num_steps, sharpness)
    t_next = max(t - 1 / num_steps, 0)
    torch.testing.assert_close(dist.mode, torch.tensor([t_next / t]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dist.concentration1 + dist.concentration0, torch.tensor([sharpness + 2]))


def test_without_sharpness_the_reference_is_uniform():
    dist = schedule_beta(torch.rand(20), 8, sharpness=0.0)
    torch.testing.assert_close(dist.log_prob(torch.rand(20)), torch.zeros(20), atol=1e-5, rtol=0)


def test_kl_is_its_integral():
    dist, reference = (
        Beta(torch.tensor([3.0]), torch.tensor([2.0])),
        schedule_beta(torch.tensor([0.7]), 8, 10.0),
    )
    x = (torch.arange(20_000) + 0.5) / 20_000
    p, q = dist.log_prob(x), reference.log_prob(x)
    torch.testing.assert_close(
        kl(dist, reference), (p.exp() * (p - q)).mean(0, keepdim=True), atol=1e-4, rtol=0
    )


def test_its_gradient_pulls_to_the_schedule():
    """Plain descent on the KL alone ends at the reference."""
    reference = schedule_beta(torch.tensor([0.3, 0.6, 1.0]), num_steps=8, sharpness=10.0)
    logits = torch.zeros(2, 3, requires_grad=True)
    for _ in range(400):
        dist = Beta(*(1 + logits.exp()))
        (gradient,) = torch.autograd.grad(kl(dist, reference).sum(), logits)
        assert gradient.isfinite().all()
        with torch.no_grad():
            logits -= 0.3 * gradient
    torch.testing.assert_close(dist.mode, reference.mode, atol=1e-2, rtol=0)
    assert kl(dist, reference).max() < 1e-3
