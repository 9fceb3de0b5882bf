import pytest
import torch
from scipy import stats

from tpdm.arena.bootstrap import interval, resampled, trimmed_mean


def test_an_interval_of_a_ratio_holds_the_true_one_as_often_as_it_says():
    """Means of Gaussian pairs that lean on each other, whose true ratio is known."""
    generator, true, size, hits = torch.Generator().manual_seed(0), 0.8, 200, 0
    shares = resampled(size, 400, 0)
    for _ in range(400):
        common = torch.randn(size, generator=generator, dtype=torch.float64)
        below = 1 + 0.4 * common
        above = true + 0.3 * common + 0.1 * torch.randn(size, generator=generator, dtype=torch.float64)
        low, high = interval((shares @ above) / (shares @ below), 0.9)
        hits += low <= true <= high
    assert hits / 400 == pytest.approx(0.9, abs=0.05)


def test_pairs_make_an_interval_narrow():
    """Errors that rise and fall together: their ratio is known far better than either mean."""
    shares = resampled(100, 500, 0)
    errors = torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 4
    low, high = interval((shares @ (0.9 * errors)) / (shares @ errors), 0.95)
    assert (low, high) == pytest.approx((0.9, 0.9))


def test_every_drawing_has_as_many_samples_as_there_are():
    shares = resampled(7, 50, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(shares, resampled(7, 50, 3))
    assert not torch.equal(shares, resampled(7, 50, 4))


def test_the_trimmed_mean_is_that_of_scipy():
    values = torch.randn(173, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    assert trimmed_mean(values, 0.02) == pytest.approx(stats.trim_mean(values.numpy(), 0.02))
