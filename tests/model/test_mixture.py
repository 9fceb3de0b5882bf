"""The exact backbone: on every path it answers with the mean, and its ODE leads to the data."""

import pytest
import torch

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import path
from tpdm.data.mixture import MixtureData
from tpdm.denoiser import Denoiser, Guided
from tpdm.model.mixture import Mixture
from tpdm.sampler.reference import reference
from tpdm.types import CondSpec, DataShape

LAW = {"easy_std": 0.7, "components": 3, "radius": 1.0, "hard_std": 0.15}
DATA = MixtureData(**LAW, split="train")
PATHS = [("flow", "velocity"), ("flow", "x0"), ("ddpm", "eps"), ("ddpm_cosine", "x0")]


def denoiser_on(name="flow", predicts=None):
    scheduler = path(name, predicts)
    return Denoiser(Mixture(**LAW, shape=DATA.shape, cond=DATA.cond, scheduler=scheduler), scheduler)


def inputs(count=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, *DATA.shape, generator=generator)
    return x, torch.rand(count, generator=generator) * 0.9 + 0.05, torch.arange(count)[:, None] % 3


@pytest.mark.parametrize(("name", "predicts"), PATHS)
def test_it_answers_with_the_posterior_means_whatever_is_asked(name, predicts):
    denoiser, (x, t, cond) = denoiser_on(name, predicts), inputs()
    c = denoiser.scheduler(t)
    known = DATA.blend.posterior(x.flatten(1), c.alpha, c.sigma, cond[:, 0])
    p = denoiser(x, t, cond)
    torch.testing.assert_close(p.x0.flatten(1), known.x0, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(p.eps.flatten(1), known.eps, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "predicts"), PATHS)
def test_no_answer_that_is_a_little_different_has_a_lower_loss(name, predicts):
    """The loss of training is lowest at the mean that is exact."""
    denoiser, generator = denoiser_on(name, predicts), torch.Generator().manual_seed(0)
    x0, cond = DATA.batch(20_000, generator)
    eps, t = torch.randn(x0.shape, generator=generator), torch.full((len(x0),), 0.5)
    exact = denoiser.loss(x0, eps, t, cond).mean()
    for factor, summand in ((1.1, 0), (0.9, 0), (1, 0.1), (1, -0.1)):
        hook = denoiser.backbone.register_forward_hook(
            lambda module, args, answer, f=factor, s=summand: (f * answer[0] + s, answer[1])
        )
        assert denoiser.loss(x0, eps, t, cond).mean() > exact
        hook.remove()


@pytest.mark.parametrize(("name", "predicts"), PATHS)
def test_the_ode_of_the_easy_kind_ends_where_one_gaussians_does(name, predicts):
    denoiser, noise = denoiser_on(name, predicts), inputs()[0]
    exact = IdealDenoiser(denoiser.scheduler, 0.0, LAW["easy_std"]).end(noise)
    ends = reference(denoiser, noise, torch.zeros(len(noise), 1, dtype=torch.long), 32)
    torch.testing.assert_close(ends, exact, atol=1e-3, rtol=1e-3)


def test_the_ode_of_the_hard_kind_ends_in_every_component_as_often():
    noise = torch.randn(3000, *DATA.shape, generator=torch.Generator().manual_seed(0))
    ends = reference(denoiser_on(), noise, torch.ones(len(noise), 1, dtype=torch.long), 16).flatten(1)
    nearest = torch.cdist(ends, DATA.blend.mean[1:]).min(1)
    assert (nearest.indices.bincount() / len(ends)).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)
    assert nearest.values.square().mean().item() == pytest.approx(2 * LAW["hard_std"] ** 2, rel=0.1)


def test_its_features_have_the_sizes_it_names_and_show_what_it_knows():
    denoiser, (x, t, cond) = denoiser_on(), inputs()
    spec, shown = denoiser.backbone.features, denoiser(x, t, cond).features
    assert shown.first.shape == shown.last.shape == (6, 1, spec.width)
    assert shown.temb.shape == (6, spec.temb_width)
    assert shown.text.shape == (6, 1, spec.text_width)
    assert shown.hw == spec.hw == (1, 1)
    known = DATA.blend.posterior(x.flatten(1), 1 - t, t, cond[:, 0])
    expected = torch.cat([known.x0, known.eps, known.belongs], dim=1)
    torch.testing.assert_close(shown.last[:, 0, : expected.shape[1]], expected)
    torch.testing.assert_close(shown.first[:, 0, :2], x.flatten(1))
    assert torch.equal(shown.text[:, 0].argmax(1), cond[:, 0])


def test_a_sample_does_not_know_its_batch():
    denoiser, args = denoiser_on(), inputs()
    together = denoiser(*args)
    for b in range(len(args[0])):
        alone = denoiser(*(value[b : b + 1] for value in args))
        torch.testing.assert_close(alone.x0[0], together.x0[b])
        torch.testing.assert_close(alone.features.last[0], together.features.last[b])


def test_no_condition_is_the_blend_of_both_so_that_it_can_be_guided():
    denoiser, (x, t, _) = denoiser_on(), inputs()
    nothing = torch.full((1, 1), 2)
    asked = torch.ones(len(x), 1, dtype=torch.long)
    got = Guided(denoiser, 0.0, null_cond=nothing)(x, t, asked).x0
    torch.testing.assert_close(got, denoiser(x, t, nothing.expand(len(x), 1)).x0)
    assert not torch.allclose(got, denoiser(x, t, asked).x0, atol=1e-2)


def test_nothing_of_it_is_trained_and_its_law_is_kept_with_it():
    backbone = denoiser_on().backbone
    assert list(backbone.parameters()) == []
    assert list(backbone.state_dict()) == ["mean", "std", "share"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": DataShape(1, 8, 8)}, "knows the points of data=mixture alone"),
        ({"cond": CondSpec(1, 10)}, "knows the points of data=mixture alone"),
        ({"outputs": 2}, "has no variance"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    facts = {"shape": DATA.shape, "cond": DATA.cond, "scheduler": path("flow")}
    with pytest.raises(ValueError, match=message):
        Mixture(**LAW, **(facts | change))


def test_kinds_are_asked_for_by_name():
    assert DATA.parse_labels(["hard", "easy", 1]).tolist() == [[1], [0], [1]]
    with pytest.raises(ValueError, match="'soft' does not exist; accepted are easy, hard"):
        DATA.parse_labels(["soft"])
