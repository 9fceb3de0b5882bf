"""The Frechet distance against its closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from tpdm.evaluation.frechet import Gaussian, fit_gaussian, frechet, gaussian_frechet, square_root

spreads = st.lists(st.floats(0, 10), min_size=3, max_size=3)
seeds = st.integers(0, 2**31)


def features(seed, count=40, width=6, rank=6):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    return draw @ torch.randn(rank, width, generator=generator, dtype=torch.float64)


@given(a=spreads, b=spreads, shift=spreads)
@settings(max_examples=50, deadline=None)
def test_diagonal_gaussians_have_a_closed_form(a, b, shift):
    """|shift|^2 + sum (std_a - std_b)^2, also where a standard deviation is zero."""
    a, b, shift = (torch.tensor(values, dtype=torch.float64) for values in (a, b, shift))
    distance = gaussian_frechet(Gaussian(shift, a.square().diag()), Gaussian(0 * shift, b.square().diag()))
    expected = (shift.square() + (a - b).square()).sum().item()
    assert distance == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(seed=seeds)
@settings(max_examples=50, deadline=None)
def test_it_agrees_with_the_matrix_square_root_of_the_product(seed):
    a, b = fit_gaussian(features(seed)), fit_gaussian(features(seed + 1))
    overlap = sqrtm((a.covariance @ b.covariance).numpy()).real.trace()
    expected = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * overlap
    assert gaussian_frechet(a, b) == pytest.approx(expected.item(), rel=1e-8)


@given(seed=seeds, rank=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_it_is_symmetric_and_zero_only_for_equals_even_where_the_covariance_is_singular(seed, rank):
    a, b = features(seed, rank=rank), features(seed + 1)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-9)
    assert frechet(a, b) > 0


@given(seed=seeds, scale=st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_rotation_changes_nothing_and_scale_comes_out_squared(seed, scale):
    a, b = features(seed), features(seed + 1)
    rotation = torch.linalg.qr(features(seed + 2, count=6))[0]
    assert frechet(a @ rotation, b @ rotation) == pytest.approx(frechet(a, b), rel=1e-8)
    assert frechet(scale * a, scale * b) == pytest.approx(scale**2 * frechet(a, b), rel=1e-8)


def test_a_shifted_copy_is_the_square_of_the_shift_away():
    a = features(0).float()
    assert frechet(a, a + 3.0) == pytest.approx(6 * 9.0, rel=1e-5)


def test_the_square_root_squares_to_the_matrix():
    covariance = fit_gaussian(features(0, rank=3)).covariance
    root = square_root(covariance)
    torch.testing.assert_close(root @ root, covariance)


def test_a_set_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2 samples in each set, seen 1"):
        frechet(features(0), features(0, count=1))


def test_one_feature_is_enough():
    a = features(0, width=1)
    assert frechet(a, 2 * a) == pytest.approx((a.mean().square() + a.var()).item())
