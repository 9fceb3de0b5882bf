"""A position is a number: any batch can be found again, and no rank sees another's stream."""

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.data.loader import Loader
from tpdm.data.source import Endless
from tpdm.types import CondSpec, DataShape


class Noise(Endless):
    """Data that shows the random stream itself."""

    shape, cond = DataShape(1, 2, 2), CondSpec(1, 10)

    def batch(self, n, generator):
        return torch.rand(n, *self.shape, generator=generator), torch.zeros(n, 1).long()


def images(loader, count):
    return [x0 for x0, _ in islice(loader, count)]


@given(seed=st.integers(0, 2**40), rank=st.integers(0, 7), left=st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_resumed_loader_goes_on_where_it_was(seed, rank, left):
    whole = images(Loader(Noise(), 3, seed, rank=rank, world_size=8), left + 4)
    first = Loader(Noise(), 3, seed, rank=rank, world_size=8)
    images(first, left)
    resumed = Loader(Noise(), 3, seed, rank=rank, world_size=8)
    resumed.load_state_dict(first.state_dict())
    torch.testing.assert_close(images(resumed, 4), whole[left:], rtol=0, atol=0)


@given(seed=st.integers(0, 2**40))
@settings(max_examples=50, deadline=None)
def test_no_two_batches_of_any_rank_share_a_sample(seed):
    loaders = [Loader(Noise(), 2, seed, rank=rank, world_size=4) for rank in range(4)]
    samples = torch.cat([x0 for loader in loaders for x0 in images(loader, 5)]).flatten(1)
    assert len(samples.unique(dim=0)) == len(samples)


def test_another_seed_is_another_stream():
    a, b = (images(Loader(Noise(), 4, seed), 1)[0] for seed in (0, 1))
    assert not (a == b).any()


def test_the_state_is_one_for_all_ranks_and_needs_as_many():
    saved = Loader(Noise(), 2, 0, rank=0, world_size=2)
    next(saved)
    other = Loader(Noise(), 2, 0, rank=1, world_size=2)
    other.load_state_dict(saved.state_dict())
    assert other.state_dict() == saved.state_dict()
    with pytest.raises(ValueError, match=r"saved with 2 ranks .* with 4; resume with 2 ranks"):
        Loader(Noise(), 2, 0, rank=0, world_size=4).load_state_dict(saved.state_dict())


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    images(Loader(Noise(), 2, 0), 2)
    assert torch.get_rng_state().equal(before)
