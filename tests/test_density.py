import pytest
import torch
from scipy import stats
from torch import Generator

from tpdm.density import beta, logit_normal, uniform
from tpdm.registry import build

N = 20_000


@pytest.mark.parametrize(
    ("draw", "law"),
    [
        (lambda g: uniform(N, g), stats.uniform()),
        (lambda g: beta(N, g, a=1.0, b=2.5), stats.beta(1.0, 2.5)),
        (
            lambda g: torch.logit(logit_normal(N, g, mean=0.5, std=2.0, uniform_share=0.0)),
            stats.norm(0.5, 2.0),
        ),
        (lambda g: logit_normal(N, g, mean=0.5, std=2.0, uniform_share=1.0), stats.uniform()),
    ],
)
def test_draws_follow_the_law_they_are_named_for(draw, law):
    u = draw(Generator().manual_seed(0))
    assert stats.kstest(u.numpy(), law.cdf).pvalue > 1e-3


def test_a_share_of_the_logit_normal_is_uniform():
    """Next to the ends, where a narrow logit-normal never goes, only that share is left."""
    u = logit_normal(N, Generator().manual_seed(0), mean=0.0, std=0.1, uniform_share=0.2)
    assert (u < 0.25).float().mean().item() == pytest.approx(0.2 * 0.25, abs=0.005)


@pytest.mark.parametrize(
    "cfg",
    [
        {"name": "uniform"},
        {"name": "beta", "a": 0.01, "b": 0.01},
        {"name": "logit_normal", "mean": 0.0, "std": 100.0, "uniform_share": 0.2},
    ],
)
def test_built_by_name_they_stay_where_training_is_defined_and_repeat(cfg):
    density = build("density", cfg)
    u = density(1000, Generator().manual_seed(1))
    assert u.dtype == torch.float32
    assert ((u >= 1e-5) & (u <= 1)).all()
    assert torch.equal(u, density(1000, Generator().manual_seed(1)))
