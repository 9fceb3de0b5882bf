import pytest
import torch

from tpdm.sampler.noise import draw, generators, initial_noise, step_generators
from tpdm.types import DataShape

SHAPE = DataShape(2, 3, 4)


def test_noise_belongs_to_the_seed_and_not_to_the_batch():
    together = initial_noise([5, 7, 11], SHAPE)
    assert together.shape == (3, 2, 3, 4)
    assert torch.equal(together[[2, 0]], initial_noise([11, 5], SHAPE))


def test_it_is_what_a_pipeline_draws_from_one_generator_per_sample():
    expected = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(7))
    assert torch.equal(initial_noise([7], SHAPE), expected)


def test_steps_draw_from_a_stream_of_their_own():
    sources = step_generators([5, 7])
    first, second = draw(sources, SHAPE), draw(sources, SHAPE)
    assert not torch.equal(first, second)
    again = step_generators([7])
    assert torch.equal(draw(again, SHAPE)[0], first[1])
    assert torch.equal(draw(again, SHAPE)[0], second[1])


def test_streams_are_uncorrelated():
    wide = (100_000,)
    a, b, c = (draw(generators([3], stream), wide)[0] for stream in (0, 1, 2))
    assert torch.corrcoef(torch.stack([a, b, c])).fill_diagonal_(0).abs().max() < 0.02


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_torch_would_fold_onto_others_are_refused(seed):
    with pytest.raises(ValueError, match="seeds: "):
        initial_noise([seed], SHAPE)
