"""Errors foreseen from the first call."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests.arena.parts import arena, static_error
from tpdm.arena import allocator
from tpdm.arena.allocator import first_features, ridge
from tpdm.evaluation.result import measure
from tpdm.sampler.allocation import pooled


def test_it_shares_steps_out_better_than_one_number_for_all_at_the_same_calls(tmp_path):
    ring = arena(tmp_path, targets=[3], seeds=[0], learning=256, evaluation=256, matching=128).ring(0)
    mine, bound = ring.played("allocator", 3), ring.played("oracle_steps", 3)
    assert abs(mine.nfe.mean() - 3) < 0.3
    assert len(mine.nfe.unique()) > 1
    same = static_error(ring, mine.nfe.mean().item())
    assert mine.error.mean() < same - 0.3 * (same - bound.error.mean())


def test_what_it_draws_are_the_baselines_schedules(tmp_path):
    ring = arena(tmp_path, targets=[3], seeds=[0]).ring(0)
    (share,) = ring.camp.contestants["allocator"].enter(ring, 3).shares
    result = measure(share.run, ring.evaluation, lambda x: x)
    for t, n in zip(result.t, result.nfe.tolist(), strict=True):
        torch.testing.assert_close(t[: n + 1], ring.camp.static_times(n))
        assert (t[n:] == 0).all()


def test_foresight_is_made_of_the_first_call_alone(tmp_path):
    ring = arena(tmp_path, targets=[3], seeds=[0]).ring(0)
    allocation, _ = ring.camp.contestants["allocator"].find(ring.camp)
    on, denoiser = ring.evaluation, ring.camp.runner.denoiser.denoiser  # behind the meter
    denoiser.calls.clear()
    features = first_features(denoiser, on, 1.0)
    assert all((t == 1).all() for t in denoiser.calls)
    foreseen = allocation.foreseen(features)
    assert foreseen.shape == (7, len(on.noise))
    assert (foreseen > 0).all()
    actual = torch.stack([ring.static(n).error for n in (2, 3, 4)]).log()
    both = torch.stack([foreseen[1:4].log().flatten(), actual.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.6


@pytest.mark.parametrize("error", [0.0, math.nan])
def test_an_error_of_zero_is_learned_from_and_one_that_is_no_number_is_told_of(error, tmp_path, monkeypatch):
    camp = arena(tmp_path, targets=[3], seeds=[0]).camp

    def one_is_odd(run, problems, decode):
        result = measure(run, problems, decode)
        result.squared_error[5] = error
        return result

    monkeypatch.setattr(allocator, "measure", one_is_odd)
    if error == 0:
        assert camp.contestants["allocator"].find(camp)[0].expected.isfinite().all()
    else:
        with pytest.raises(FloatingPointError, match=r"a sample of suite\.learning"):
            camp.contestants["allocator"].find(camp)


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_a_log_normal_error_is_foreseen_with_its_mean(spread, tmp_path, monkeypatch):
    """Of which nothing shows: e^(spread^2 / 2), for every number of steps."""
    foreseen = foreseen_of(tmp_path, monkeypatch, lambda z: (spread * z).exp())
    torch.testing.assert_close(foreseen, torch.full_like(foreseen, math.exp(spread**2 / 2)), rtol=0.1, atol=0)


def test_one_error_that_nobody_foresaw_is_not_the_guide_of_all(tmp_path, monkeypatch):
    """A thousand times all others, in the mean it would be two thirds of everything."""
    foreseen = foreseen_of(tmp_path, monkeypatch, lambda z: torch.where(z == z.max(), 1000.0, 1.0))
    assert (foreseen < 1.1).all()


def foreseen_of(tmp_path, monkeypatch, error):
    """The mean foreseen where errors are a function of noise that no feature tells of."""
    camp = arena(tmp_path, targets=[3], seeds=[0], learning=512).camp
    z = torch.randn(512, generator=torch.Generator().manual_seed(1))
    given = lambda run, on, decode: SimpleNamespace(squared_error=error(z))  # noqa: E731
    monkeypatch.setattr(allocator, "measure", given)
    found, _ = camp.contestants["allocator"].find(camp)
    return found.foreseen(first_features(camp.runner.denoiser, camp.sets.matching, 1.0)).mean(1)


def test_ridge_finds_a_line_that_is_there():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 100, 0.01, 1, 0])
    weights = torch.tensor([[1.0, 0], [0, 0.02], [30, 0], [0, -1], [7, 7]])
    mean, found = ridge(x, x @ weights + 3)
    torch.testing.assert_close((x - mean) @ found[:-1] + found[-1], x @ weights + 3, rtol=0, atol=0.05)


def test_a_description_does_not_depend_on_the_others_in_the_batch(tmp_path):
    camp = arena(tmp_path, targets=[3], seeds=[0]).camp
    features = first_features(camp.runner.denoiser, camp.sets.matching, 1.0)
    torch.testing.assert_close(pooled(features)[3:5], pooled(features[torch.tensor([3, 4])]))
