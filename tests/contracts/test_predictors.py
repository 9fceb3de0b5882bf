"""What holds for every preset of a predictor, cut down to a width and depth that fit a test."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.predictor.features import SPEC, random_features
from tests.tiny import scrambled
from tpdm.cli import config_dir
from tpdm.registry import build
from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.types import CostRange

PRESETS = {
    file.stem: [f"predictor={file.stem}"]
    for file in sorted((config_dir() / "predictor").glob("*.yaml"))
    if file.stem not in ("none", "official")  # a published file has sizes of its own, and its own tests
} | {
    "hybrid_cnn": ["predictor=hybrid", "predictor/arch=cnn"],
    "vit_temb": ["predictor=vit", "predictor.time=temb"],
    "vit_no_time": ["predictor=vit", "predictor.time=none"],
    "vit_no_time_mean": ["predictor=vit", "predictor.time=none", "predictor.text=mean"],
    "vit_mean": ["predictor=vit", "predictor.text=mean", "predictor.projection_width=8"],
    "vit_cross": ["predictor=vit", "predictor.text=cross_attention", "predictor.patch_size=2"],
}
T = torch.tensor([0.02, 0.4, 1.0])
COSTS = CostRange(1e-6, 1e-2)


def smaller(cfg):
    """The preset with few layers, each as narrow as its heads and groups allow, and small patches."""
    sizes = {"width": 4 * cfg.get("num_heads", 8), "depth": 1, "groups": 4, "time_width": 8}
    sizes["patch_size"] = min(cfg.get("patch_size", 1), 2)
    return {
        key: smaller(value) if isinstance(value, dict) else sizes.get(key, value)
        for key, value in cfg.items()
    }


@pytest.fixture(params=PRESETS, scope="module")
def cfg(request, composed):
    return smaller(composed(*PRESETS[request.param])["predictor"])


def made(cfg, costs=None):
    torch.manual_seed(0)
    return build("predictor", cfg, features=SPEC, costs=costs)


def test_it_answers_with_one_beta_per_sample_in_float32(cfg):
    dist = scrambled(made(cfg))(random_features(3), T)
    for c in (dist.concentration1, dist.concentration0):
        assert c.shape == (3,)
        assert c.dtype == torch.float32
        assert (c > 1).all()
        assert (c < 1 + math.exp(4)).all()


def test_it_starts_close_to_its_first_schedule_whatever_it_sees(cfg):
    dist = made(cfg).eval()(random_features(64), torch.rand(64))
    a, b = cfg.get("arch", cfg)["init_logits"]
    assert (dist.mode - torch.sigmoid(torch.tensor(a - b))).abs().max() < 0.05


def test_gradients_reach_every_parameter(cfg):
    model = scrambled(made(cfg))
    dist = model(random_features(16), torch.rand(16))
    dist.log_prob(torch.full((16,), 0.7)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_sample_does_not_know_its_batch(cfg):
    model, features = scrambled(made(cfg)).eval(), random_features(3)
    together = model(features, T)
    for b in range(3):
        alone = model(features[b : b + 1], T[b : b + 1])
        torch.testing.assert_close(alone.mode[0], together.mode[b], atol=1e-5, rtol=1e-5)


def test_it_reads_features_of_half_precision(cfg):
    model, features = scrambled(made(cfg)).eval(), random_features(3)
    half = model(features.map(torch.Tensor.bfloat16), T)
    assert half.concentration1.dtype == torch.float32
    torch.testing.assert_close(half.mode, model(features, T).mode, atol=0.05, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_it_digests_is_all_that_it_reads(cfg, dtype):
    """In the precision in which it was shown, and whatever its weights are."""
    model, features = scrambled(made(cfg)).eval(), random_features(3).map(lambda x: x.to(dtype))
    kept = model.digest(features)
    for name in ("first", "last", "temb", "text"):
        mine, whole = getattr(kept, name), getattr(features, name)
        assert mine is None or (mine.dtype == dtype and mine.numel() <= whole.numel())
    learned = scrambled(model, seed=1)
    assert torch.equal(learned(kept, T).mode, learned(features, T).mode)


def test_its_weights_are_kept_in_a_file(cfg, tmp_path):
    model = scrambled(made(cfg)).eval()
    save_artifact(tmp_path / "predictor", cfg, model.state_dict())
    config, state = load_artifact(tmp_path / "predictor")
    again = made(config).eval()
    again.load_state_dict(state)
    assert torch.equal(again(random_features(3), T).mode, model(random_features(3), T).mode)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), std=st.floats(0.01, 2))
def test_the_dearer_a_step_the_longer_it_is_whatever_the_weights(cfg, seed, std):
    """The mode falls, and with it every quantile: one concentration falls and the other rises."""
    model = scrambled(made(cfg, COSTS), seed, std).eval()
    features, t = random_features(1, seed), torch.full((1,), 0.3)
    costs = COSTS.at(torch.linspace(-0.1, 1.1, 41))
    rows = torch.zeros(41, dtype=torch.long)
    dist = model(features[rows], t[rows], costs)
    assert (dist.concentration1.diff() <= 1e-5 * dist.concentration1[1:]).all()
    assert (dist.concentration0.diff() >= -1e-5 * dist.concentration0[1:]).all()
    assert (dist.mode.diff() <= 1e-5).all()


def test_it_starts_with_long_schedules_where_steps_are_cheap(cfg):
    dist = made(cfg, COSTS).eval()(random_features(3), T, COSTS.at(torch.tensor([0.0, 0.5, 1.0])))
    a, b = cfg.get("arch", cfg)["init_logits"]
    expected = torch.sigmoid(a - b + torch.tensor([1.3, 0.0, -1.3]))
    torch.testing.assert_close(dist.mode, expected, atol=0.06, rtol=0)


def test_a_range_of_costs_adds_weights_and_moves_no_other(cfg):
    alone, told = made(cfg), made(cfg, COSTS)
    mine, more = alone.state_dict(), told.state_dict()
    assert {name for name in more if name not in mine} == {
        name for name in more if name.endswith(("thrift.linear.weight", "thrift.linear.bias"))
    }
    assert more.keys() > mine.keys()
    assert all(torch.equal(more[name], mine[name]) for name in mine)


def test_gradients_reach_every_parameter_of_one_that_is_told_costs(cfg):
    model = scrambled(made(cfg, COSTS))
    dist = model(random_features(32), torch.rand(32), COSTS.at(torch.rand(32)))
    dist.log_prob(torch.full((32,), 0.7)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_sample_does_not_know_what_others_are_told(cfg):
    model, features = scrambled(made(cfg, COSTS)).eval(), random_features(3)
    costs = torch.tensor([1e-6, 3e-4, 1e-2])
    together = model(features, T, costs)
    for b in range(3):
        rows = slice(b, b + 1)
        alone = model(features[rows], T[rows], costs[rows])
        torch.testing.assert_close(alone.mode[0], together.mode[b], atol=1e-5, rtol=1e-5)
