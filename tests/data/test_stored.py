"""Epochs without a state: everything once, ranks apart, the next sample after a stop, damage passed by."""

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.data.damage import Damage, DamagedError, TooManySkippedError
from tpdm.data.loader import Loader
from tpdm.data.stored import Stored, parse_classes, side
from tpdm.types import CondSpec, DataShape


class Numbers(Stored):
    """Row k is the number k."""

    def __init__(self, size, workers=0, reshard=False, damaged=(), max_skipped=1.0, path=None, held_out=0.0):
        self.damaged = set(damaged)
        super().__init__(
            size, DataShape(1, 1, 1), CondSpec(1, 1), "train", held_out, workers, reshard, max_skipped, path
        )

    def load(self, rows, coins):
        if bad := [Damage("shard", str(row), "broken", row) for row in rows.tolist() if row in self.damaged]:
            raise DamagedError(bad)
        return torch.tensor(rows).view(-1, 1, 1, 1), torch.tensor(coins)


def numbers(loader, batches):
    return [x0.flatten().tolist() for x0, _ in islice(loader, batches)]


@given(
    size=st.integers(1, 40),
    batch=st.integers(1, 9),
    world_size=st.integers(1, 4),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=100, deadline=None)
def test_all_ranks_together_meet_everything_once_an_epoch(size, batch, world_size, epochs, seed):
    rounds = -(-size * epochs // (batch * world_size))
    loaders = [Loader(Numbers(size), batch, seed, rank=r, world_size=world_size) for r in range(world_size)]
    parts = [numbers(loader, rounds) for loader in loaders]
    stream = [n for k in range(rounds) for part in parts for n in part[k]]
    for epoch in range(epochs):
        assert sorted(stream[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    loader = Loader(Numbers(50), 50, seed=0)
    orders = [*numbers(loader, 3), *numbers(Loader(Numbers(50), 50, seed=1), 1), list(range(50))]
    assert len({tuple(order) for order in orders}) == 5


@given(
    left=st.integers(0, 20), workers=st.tuples(st.integers(0, 3), st.integers(0, 3)), rank=st.integers(0, 1)
)
@settings(max_examples=40, deadline=None)
def test_a_resumed_loader_goes_on_at_the_next_sample_whatever_its_workers(left, workers, rank):
    """20 batches of 2 x 3 are several epochs of 17."""
    whole = numbers(Loader(Numbers(17), 3, 5, rank=rank, world_size=2), left + 6)
    first = Loader(Numbers(17, workers[0]), 3, 5, rank=rank, world_size=2)
    assert numbers(first, left) == whole[:left]
    resumed = Loader(Numbers(17, workers[1]), 3, 5, rank=rank, world_size=2)
    next(resumed)  # what had been read ahead is forgotten
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert numbers(resumed, 6) == whole[left:]


def test_other_ranks_are_an_error_or_the_next_epoch():
    saved = Loader(Numbers(10), 2, 0, world_size=2)
    numbers(saved, 3)  # 12 samples
    with pytest.raises(
        ValueError, match=r"saved with 2 ranks .* with 1; resume with 2 ranks, .*reshard=true"
    ):
        Loader(Numbers(10), 2, 0).load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match="saved with 2 samples in a batch"):
        Loader(Numbers(10), 3, 0, world_size=2).load_state_dict(saved.state_dict())
    resharded = Loader(Numbers(10, reshard=True), 10, 0)
    resharded.load_state_dict(saved.state_dict())
    fresh = Loader(Numbers(10), 10, 0)
    assert numbers(resharded, 1) == numbers(fresh, 3)[2:]


def test_damaged_samples_are_listed_once_and_make_way_for_the_next(tmp_path):
    path = tmp_path / "skipped.jsonl"
    clean = numbers(Loader(Numbers(20), 20, 0), 1)[0]
    met = numbers(Loader(Numbers(20, damaged=(3, 7), path=path), 20, 0), 2)
    following = {n: next(m for m in (clean * 2)[clean.index(n) + 1 :] if m not in (3, 7)) for n in (3, 7)}
    assert met[0] == [following.get(n, n) for n in clean]
    assert set(met[1]) == set(range(20)) - {3, 7}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    entries = [{"shard": "shard", "key": key, "reason": "broken"} for key in ("3", "7")]
    assert sorted(lines, key=lambda line: line["key"]) == entries
    numbers(Loader(Numbers(20, damaged=(3, 7), path=path), 20, 0), 1)  # a resumed run
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_with_damage_is_found_again_as_well(workers):
    damaged = (0, 5, 6)
    whole = numbers(Loader(Numbers(12, damaged=damaged), 5, 1), 9)
    resumed = Loader(Numbers(12, workers, damaged=damaged), 5, 1)
    resumed.load_state_dict({"position": 20, "world_size": 1, "batch_size": 5})
    assert numbers(resumed, 5) == whole[4:]


def test_more_damage_than_allowed_ends_the_run():
    loader = Loader(Numbers(100, damaged=(1, 2), max_skipped=0.01), 100, 0)
    with pytest.raises(
        TooManySkippedError, match=r"2 of 100 samples are damaged, more than data.max_skipped=0.01"
    ):
        next(loader)
    assert len(numbers(Loader(Numbers(100, damaged=(1,), max_skipped=0.01), 100, 0), 2)) == 2
    with pytest.raises(TooManySkippedError, match="3 of 3"):
        next(Loader(Numbers(3, damaged=(0, 1, 2)), 3, 0))


def test_an_error_in_a_thread_is_met_at_its_turn():
    data = Numbers(
        100, workers=2, damaged=(int(numbers(Loader(Numbers(100), 10, 0), 4)[3][0]),), max_skipped=0
    )
    loader = Loader(data, 10, 0)
    assert len(numbers(loader, 3)) == 3
    with pytest.raises(TooManySkippedError):
        next(loader)


def test_coins_are_fair_and_tossed_anew_each_epoch():
    loader = Loader(Numbers(4000), 4000, 0)
    tosses = []
    for x0, coins in islice(loader, 2):
        tosses.append(coins[x0.flatten().argsort()].float())
    both = torch.stack(tosses)
    torch.testing.assert_close(
        both.mean(1), torch.full((2,), 0.5), atol=0.032, rtol=0
    )  # four standard errors
    assert (both[0] != both[1]).float().mean() > 0.4


@given(size=st.integers(1, 200), fraction=st.floats(0.01, 0.9))
def test_the_sides_of_the_split_are_everything_and_share_nothing(size, fraction):
    both = Counter(np.concatenate([side(size, split, fraction) for split in ("train", "test")]).tolist())
    assert both == Counter(range(size))


def test_no_held_out_share_is_everything_on_both_sides():
    assert side(5, "train", 0.0).tolist() == side(5, "test", 0.0).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"data.test_fraction=0.9 of 1 samples leaves none to train"):
        Numbers(1, held_out=0.9)


def test_a_batch_drawn_by_hand_depends_on_its_generator_only():
    data = Numbers(1000, damaged=(3,))
    x0, coins = data.batch(50, torch.Generator().manual_seed(3))
    assert x0.equal(data.batch(50, torch.Generator().manual_seed(3))[0])
    assert not coins.any()


def test_classes_are_typed_by_name_or_number():
    assert parse_classes(["cat", 1, "0"], ["cat", "dog"]).tolist() == [[0], [1], [0]]
    with pytest.raises(
        ValueError, match="labels: 'cow' does not exist; accepted are cat, dog, or their numbers"
    ):
        parse_classes(["cow"], ["cat", "dog"])
