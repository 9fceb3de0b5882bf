"""A scene is what its condition says: real digits of its split where it names one, nothing elsewhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.data.digit_scenes import DigitScenes
from tpdm.data.digits import EMPTY, count_digits, real_digits, split_cells


@pytest.mark.parametrize("split", ["train", "test"])
@given(seed=st.integers(0, 2**31), cells=st.tuples(st.integers(1, 3), st.integers(1, 3)))
@settings(max_examples=15, deadline=None)
def test_every_cell_is_empty_or_a_real_digit_of_the_split_and_label(split, seed, cells):
    data = DigitScenes(*cells, 0, None, split=split)
    x0, cond = data.batch(32, torch.Generator().manual_seed(seed))
    assert x0.shape == (32, *data.shape)
    assert cond.shape == (32, data.cond.slots)
    tiles = split_cells(x0)
    assert (tiles[cond == EMPTY] == -1).all()
    images, labels = real_digits(split)
    shown, asked = tiles[cond != EMPTY], cond[cond != EMPTY]
    same = (shown[:, None] == images).flatten(2).all(2) & (asked[:, None] == labels)  # (digits, images)
    assert same.any(1).all()


def test_no_cell_of_the_test_split_is_a_training_digit():
    x0, cond = DigitScenes(2, 2, 0, None, split="test").batch(200, torch.Generator().manual_seed(0))
    shown, train = split_cells(x0)[cond != EMPTY], real_digits("train")[0]
    assert not (shown[:, None] == train).flatten(2).all(2).any()


def test_every_count_and_every_cell_comes_equally_often():
    """10,000 scenes: four standard errors of a share are 0.016 and 0.02."""
    _, cond = DigitScenes(2, 2, 0, None, split="train").batch(10_000, torch.Generator().manual_seed(0))
    share = torch.bincount(count_digits(cond), minlength=5) / len(cond)
    torch.testing.assert_close(share, torch.full((5,), 0.2), atol=0.016, rtol=0)
    filled = (cond != EMPTY).float().mean(0)
    torch.testing.assert_close(filled, torch.full((4,), 0.5), atol=0.02, rtol=0)


@given(data=st.data(), cells=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@settings(max_examples=15, deadline=None)
def test_counts_stay_within_their_bounds_and_reach_them(data, cells):
    most = data.draw(st.integers(0, cells[0] * cells[1]))
    least = data.draw(st.integers(0, most))
    scenes = DigitScenes(*cells, least, most, split="train")
    found = count_digits(scenes.batch(500, torch.Generator().manual_seed(0))[1])
    assert set(found.tolist()) == set(range(least, most + 1))


@pytest.mark.parametrize(("least", "most"), [(0, 5), (3, 2), (5, None)])
def test_counts_that_cells_cannot_hold_are_refused(least, most):
    with pytest.raises(ValueError, match=rf"data.min_digits={least}, data.max_digits={most} .* the 4 cells"):
        DigitScenes(2, 2, least, most, split="train")


def test_the_cells_of_one_digit_are_chosen_at_random():
    _, cond = DigitScenes(2, 2, 0, None, split="train").batch(10_000, torch.Generator().manual_seed(0))
    alone = cond[count_digits(cond) == 1] != EMPTY
    torch.testing.assert_close(alone.float().mean(0), torch.full((4,), 0.25), atol=0.04, rtol=0)


def test_a_batch_depends_on_its_generator_only():
    data = DigitScenes(2, 2, 0, None, split="train")
    torch.manual_seed(0)
    first = data.batch(16, torch.Generator().manual_seed(7))
    torch.manual_seed(1)
    again = data.batch(16, torch.Generator().manual_seed(7))
    other = data.batch(16, torch.Generator().manual_seed(8))
    assert first[0].equal(again[0])
    assert first[1].equal(again[1])
    assert not first[0].equal(other[0])
