import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.scheduler.paths import path
from tests.tiny import COND, SHAPE, conditions, scrambled, tiny_denoiser, tiny_dit
from tpdm.denoiser import Denoiser, Guided, guided
from tpdm.scheduler.path import expand
from tpdm.types import Features

READINGS = [("flow", "velocity"), ("flow", "x0"), ("ddpm", "eps"), ("ddpm", "x0"), ("ddpm_cosine", "eps")]
NULL = torch.full((1, COND.slots), COND.symbols)


class Oracle(nn.Module):
    """A backbone that answers with what it was given; remembers the timesteps it was told."""

    def __init__(self, raw):
        super().__init__()
        self.raw, self.told = raw, []

    def forward(self, x, timestep, cond):
        self.told.append(timestep)
        return self.raw, Features(x[:, 0], x[:, 0], timestep[:, None], None, (4, 4))


def problem(name, predicts, count=5):
    """Both ends, a time, and the raw output of a perfect network."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, count, 1, 4, 4, generator=generator)
    t = torch.rand(count, generator=generator) * 0.8 + 0.1
    c = path(name)(t)
    velocity = expand(c.d_alpha, x0) * x0 + expand(c.d_sigma, x0) * eps
    return x0, eps, t, {"velocity": velocity, "x0": x0, "eps": eps}[predicts]


def inputs(count=6):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, *SHAPE, generator=generator),
        torch.rand(count, generator=generator),
        conditions(count),
    )


@pytest.mark.parametrize(("name", "predicts"), READINGS)
def test_a_perfect_network_has_no_loss_and_finds_both_ends(name, predicts):
    x0, eps, t, raw = problem(name, predicts)
    denoiser, c = Denoiser(Oracle(raw), path(name, predicts)), path(name)(t)
    assert denoiser.loss(x0, eps, t, NULL).max() < 1e-12
    found = denoiser(expand(c.alpha, x0) * x0 + expand(c.sigma, x0) * eps, t, NULL)
    torch.testing.assert_close(found.x0, x0, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.eps, eps, atol=1e-3, rtol=0)
    for told in denoiser.backbone.told:
        torch.testing.assert_close(told, path(name).timestep(t))


@pytest.mark.parametrize(("name", "predicts"), READINGS)
def test_the_loss_is_the_mean_square_of_what_is_missed_sample_by_sample(name, predicts):
    x0, eps, t, raw = problem(name, predicts)
    miss = torch.randn_like(raw)
    loss = Denoiser(Oracle(raw + miss), path(name, predicts)).loss(x0, eps, t, NULL)
    torch.testing.assert_close(loss, miss.square().mean((1, 2, 3)), atol=1e-5, rtol=1e-5)


def test_a_learned_variance_adds_its_bound_to_the_loss():
    x0, eps, t, raw = problem("ddpm", "eps")
    losses = [
        Denoiser(Oracle(torch.cat([raw, torch.full_like(raw, v)], 1)), path("ddpm", "eps_and_variance"))
        .loss(x0, eps, t, NULL)
        .mean()
        for v in (-1.0, 1.0)
    ]
    assert 0 <= losses[0] < losses[1]


@pytest.mark.parametrize(("name", "predicts"), READINGS)
def test_both_ends_are_float32_whatever_the_network_runs_in(name, predicts):
    half = Denoiser(scrambled(tiny_dit()).bfloat16().eval(), path(name, predicts))
    x, t, cond = inputs()
    c, found = path(name)(t), half(x, t, cond)
    assert found.x0.dtype == found.eps.dtype == torch.float32
    recomposed = expand(c.alpha, x) * found.x0 + expand(c.sigma, x) * found.eps
    torch.testing.assert_close(recomposed, x, atol=1e-5, rtol=0)  # x itself was never rounded
    assert found.features.last.dtype == torch.bfloat16


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0, 8))
def test_guidance_is_its_formula_for_both_ends_and_the_features(scale):
    denoiser, (x, t, cond) = tiny_denoiser(path("flow")), inputs()
    given_, without = denoiser(x, t, cond), denoiser(x, t, NULL.expand_as(cond))
    got = Guided(denoiser, scale, null_cond=NULL)(x, t, cond)

    def formula(name, record=lambda p: p):
        uncond, cond = (getattr(record(p), name) for p in (without, given_))
        return uncond + scale * (cond - uncond)

    for name in ("x0", "eps"):
        torch.testing.assert_close(getattr(got, name), formula(name), atol=1e-4, rtol=1e-4)
    for name in ("first", "last", "temb", "text"):
        expected = formula(name, lambda p: p.features)
        torch.testing.assert_close(getattr(got.features, name), expected, atol=1e-4, rtol=1e-4)


def test_guidance_of_one_is_no_guidance():
    denoiser = tiny_denoiser(path("flow"))
    assert guided(denoiser, 1.0, null_cond=NULL) is denoiser  # and costs no second pass
    got, expected = Guided(denoiser, 1.0, null_cond=NULL)(*inputs()), denoiser(*inputs())
    torch.testing.assert_close(got[:2], expected[:2], atol=1e-6, rtol=1e-5)


def test_guidance_is_one_pass_over_a_doubled_batch():
    denoiser, seen, (x, t, cond) = tiny_denoiser(path("flow")), [], inputs()
    denoiser.backbone.register_forward_hook(lambda m, args, out: seen.append(args[2]))
    wrapped = guided(denoiser, 3.0, null_cond=NULL)
    wrapped(x, t, cond)
    assert wrapped.scheduler is denoiser.scheduler
    (conds,) = seen
    assert torch.equal(conds, torch.cat([NULL.expand_as(cond), cond]))
