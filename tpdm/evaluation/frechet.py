"""Frechet distance between two sets of features (Heusel et al. 2017), in float64."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.data.digits import real_digits
from tpdm.evaluation.digit_classifier import DigitClassifier


class Gaussian(NamedTuple):
    """Mean (D,) and covariance (D, D)."""

    mean: Tensor
    covariance: Tensor


def fit_gaussian(features: Float[Tensor, "M D"]) -> Gaussian:
    if len(features) < 2:
        raise ValueError(f"a Frechet distance needs at least 2 samples in each set, seen {len(features)}")
    features = features.double()
    return Gaussian(features.mean(0), features.T.cov().reshape(2 * features.shape[1:]))


def gaussian_frechet(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) (Dowson & Landau 1982).

    The last trace is the sum of the singular values of A^1/2 B^1/2; unlike a square root of the product, it
    keeps its digits where a covariance is singular.
    """
    overlap = torch.linalg.svdvals(square_root(a.covariance) @ square_root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return ((a.mean - b.mean).square().sum() + spread.clamp(min=0)).item()


def square_root(covariance: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """The positive semi-definite square root."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet(features_a: Float[Tensor, "M D"], features_b: Float[Tensor, "N D"]) -> float:
    """Distance between the Gaussians of two sets of features."""
    return gaussian_frechet(fit_gaussian(features_a), fit_gaussian(features_b))


def real_floor(classifier: DigitClassifier) -> float:
    """The real against the real: training digits against held-out digits, what no generator has to beat."""
    train, test = (classifier.features(real_digits(split)[0]) for split in ("train", "test"))
    return frechet(train, test)
