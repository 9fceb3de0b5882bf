"""A caption is true of its image: drawn strokes have the slant and the weight that they are said to have."""

import torch

from tpdm.data.digit_captions import WORDS, DigitCaptions, slant, spread
from tpdm.data.digits import real_digits


def stroke(lean):
    """A line that moves `lean` columns to the right per row upwards."""
    ink = torch.zeros(1, 1, 8, 8)
    for row in range(8):
        ink[0, 0, row, round(3.5 + lean * (3.5 - row))] = 1
    return ink


def test_slant_is_measured_in_columns_per_row():
    assert slant(stroke(0.0)).item() == 0
    assert abs(slant(stroke(1.0)).item() - 1) < 1e-5
    assert abs(slant(stroke(-1.0)).item() + 1) < 1e-5


def test_spread_is_the_standard_deviation_of_the_columns():
    ink = torch.zeros(1, 1, 8, 8)
    ink[..., 1] = ink[..., 5] = 1
    assert abs(spread(ink).item() - 2) < 1e-5


def test_each_caption_names_its_digit_and_one_word_of_each_kind():
    data = DigitCaptions(split="test")
    images, labels = real_digits("test")
    known = {tuple(row) for row in images.flatten(1).tolist()}
    x0, captions = data.batch(200, torch.Generator().manual_seed(0))
    assert data.cond is None
    assert {tuple(row) for row in x0.flatten(1).tolist()} <= known
    for label, caption in zip(labels.tolist(), data.captions, strict=True):
        assert [word for word in WORDS if word in caption.replace(",", "").split()] == [WORDS[label]]
    assert all(caption in data.captions for caption in captions)


def test_bold_digits_have_more_ink_than_thin_ones():
    data = DigitCaptions(split="train")
    ink = ((data.images + 1) / 2).sum((1, 2, 3))
    bold = torch.tensor(["bold" in caption for caption in data.captions])
    thin = torch.tensor(["thin" in caption for caption in data.captions])
    assert ink[bold].min() > ink[thin].max()
    for share in (bold.float().mean(), thin.float().mean()):
        assert 0.25 < share < 0.42


def test_every_way_to_lean_is_common():
    captions = DigitCaptions(split="train").captions
    for word in ("left", "right", "upright"):
        assert sum(word in caption.split(", ")[-1] for caption in captions) > 0.15 * len(captions)
