"""The digits are scikit-learn's own, split once and for all, and cells can be cut out and put back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tpdm.data.digit_scenes import DigitScenes
from tpdm.data.digits import EMPTY, Digits, count_digits, join_cells, real_digits, split_cells


def rows(images):
    """Each image as a tuple of ink, 0..16, with its label: what can be compared as a set."""
    return [tuple(ink) for ink in ((images + 1) * 8).flatten(1).int().tolist()]


def test_the_two_sides_are_all_of_scikit_learns_digits_with_their_labels():
    images, labels = load_digits(return_X_y=True)
    (train, train_labels), (test, test_labels) = real_digits("train"), real_digits("test")
    assert (len(train), len(test)) == (1257, 540)
    ours = zip(rows(torch.cat([train, test])), torch.cat([train_labels, test_labels]).tolist(), strict=True)
    theirs = zip((tuple(ink) for ink in images.astype(int).tolist()), labels.tolist(), strict=True)
    assert sorted(ours) == sorted(theirs)


def test_pixels_fill_the_range_from_minus_one_to_one():
    images, _ = real_digits("train")
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1.0, 1.0)


def test_every_class_is_on_both_sides():
    for split, least in (("train", 100), ("test", 40)):
        assert torch.bincount(real_digits(split)[1], minlength=10).min() >= least


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(ValueError, match="split='valid' does not exist; use one of train, test"):
        real_digits("valid")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_batch_holds_digits_of_its_split_under_their_label(split):
    data = Digits(split=split)
    x0, cond = data.batch(300, torch.Generator().manual_seed(0))
    assert x0.shape == (300, *data.shape)
    assert cond.shape == (300, data.cond.slots)
    real = set(zip(rows(data.images), data.labels.tolist(), strict=True))
    assert set(zip(rows(x0), cond[:, 0].tolist(), strict=True)) <= real


@given(
    batch=st.integers(1, 3), channels=st.integers(1, 3), cells=st.tuples(st.integers(1, 4), st.integers(1, 4))
)
@settings(max_examples=50, deadline=None)
def test_cells_are_cut_row_by_row_and_put_back(batch, channels, cells):
    n_rows, n_cols = cells
    x = torch.arange(batch * channels * n_rows * n_cols * 64.0).view(batch, channels, n_rows * 8, n_cols * 8)
    tiles = split_cells(x)
    for slot in range(n_rows * n_cols):
        row, col = divmod(slot, n_cols)
        assert tiles[:, slot].equal(x[:, :, row * 8 : row * 8 + 8, col * 8 : col * 8 + 8])
    assert join_cells(tiles, cells).equal(x)


def test_labels_are_read_as_people_write_them():
    scenes, digits = DigitScenes(2, 2, 0, None, split="test"), Digits(split="test")
    assert scenes.parse_labels(["3", "-", "empty", 7]).tolist() == [[3, EMPTY, EMPTY, 7]]
    assert scenes.parse_labels(list("12340000")).tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    assert digits.parse_labels([0, "9"]).tolist() == [[0], [9]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["3", "ten", "-", "-"],
            "'ten' does not exist; accepted are 0 to 9, and empty or - for an empty cell",
        ),
        ([10, 1, 1, 1], "'10' does not exist"),
        ([-1, 1, 1, 1], "'-1' does not exist"),
        ([1, 2, 3], "3 given; a sample has 4 cells"),
        ([], "0 given"),
    ],
)
def test_a_label_that_does_not_exist_is_named_on_one_line(labels, message):
    with pytest.raises(ValueError, match=message) as error:
        DigitScenes(2, 2, 0, None, split="test").parse_labels(labels)
    assert "\n" not in str(error.value)


def test_single_digits_have_no_empty_cell():
    with pytest.raises(ValueError, match=r"'-' does not exist; accepted are 0 to 9$"):
        Digits(split="test").parse_labels(["-"])


def test_count_digits_leaves_out_empty_cells():
    cond = torch.tensor([[EMPTY] * 4, [0, EMPTY, 9, EMPTY], [1, 2, 3, 4]])
    assert count_digits(cond).tolist() == [0, 2, 4]
