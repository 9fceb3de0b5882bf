"""A caption is true of its image: drawn strokes have the slant and the weight that they are said to have."""

import pytest
import torch

from tpdm.data.digit_captions import SIDES, WORDS, DigitCaptions, digits_of, sides_of, slant, weight, written
from tpdm.data.digits import light_on_dark, real_digits


@pytest.fixture(scope="module")
def data():
    return DigitCaptions(0.75, split="test")


def drawn(data, n=400):
    return data.batch(n, torch.Generator().manual_seed(0))


def stroke(lean):
    """A line that moves `lean` columns to the right per row upwards."""
    x = torch.full((1, 1, 8, 8), -1.0)
    for row in range(8):
        x[0, 0, row, round(3.5 + lean * (3.5 - row))] = 1
    return x


def test_slant_is_measured_in_columns_per_row():
    assert slant(stroke(0.0)).item() == 0
    assert abs(slant(stroke(1.0)).item() - 1) < 1e-5
    assert abs(slant(stroke(-1.0)).item() + 1) < 1e-5


def test_a_caption_reads_as_one_would_write_it():
    assert written("three", "bold", "tilted left", "") == "a bold three, tilted left"
    assert written("eight", "", "", "dark on light") == "an eight, dark on light"
    assert written("eight", "thin", "", "") == "a thin eight"


def test_a_batch_is_real_digits_of_which_half_are_turned(data):
    images, _ = real_digits("test")
    known = {tuple(row) for row in images.flatten(1).tolist()}
    x0, captions = drawn(data)
    assert data.cond is None
    asked = data.asked(captions)
    upright = light_on_dark(x0, asked.sign)
    assert {tuple(row) for row in upright.flatten(1).tolist()} <= known
    turned = ~(upright == x0).flatten(1).all(1)
    assert 0.4 < turned.float().mean() < 0.6
    for said, sign in zip(asked.sign.tolist(), turned.tolist(), strict=True):
        assert said == 0 or (said == -1) == sign
    assert 0.15 < (asked.sign == 0).float().mean() < 0.35


def test_a_caption_names_the_digit_of_its_image(data):
    """Found again among the real digits by its pixels."""
    images, labels = real_digits("test")
    x0, captions = drawn(data, 100)
    x0 = light_on_dark(x0, data.asked(captions).sign).flatten(1)
    nearest = torch.cdist(x0, images.flatten(1)).argmin(1)
    assert torch.equal(digits_of(captions), labels[nearest])


def test_a_caption_tells_all_or_as_little_as_its_digit(data):
    silent = DigitCaptions(0.0, split="test")
    _, captions = silent.batch(200, torch.Generator().manual_seed(0))
    assert {caption.split(" ", 1)[1] for caption in captions} == set(WORDS)
    _, captions = DigitCaptions(1.0, split="test").batch(200, torch.Generator().manual_seed(0))
    assert set(captions) <= set(data.texts())
    assert all(any(side in caption for side in SIDES) for caption in captions)


def test_the_same_place_is_the_same_batch(data):
    (x0, captions), (again, same) = drawn(data), drawn(data)
    assert torch.equal(x0, again)
    assert captions == same


@pytest.mark.parametrize("digit", range(10))
def test_bold_is_more_ink_than_thin_and_every_digit_has_a_third_of_each_kind(digit):
    data = DigitCaptions(0.75, split="train")
    own = data.labels == digit
    for said, measure, words in (
        (data.weights, weight, ("thin", "", "bold")),
        (data.tilts, slant, ("tilted left", "", "tilted right")),
    ):
        low, middle, high = (
            measure(data.images[own & torch.tensor([k == word for k in said])]) for word in words
        )
        assert low.max() <= middle.min()
        assert middle.max() <= high.min()
        assert all(0.3 < len(part) / own.sum() < 0.37 for part in (low, middle, high))


def test_a_prompt_of_a_person_is_read():
    assert digits_of(["A BOLD Three, tilted left", "nine"]).tolist() == [3, 9]
    assert sides_of(["a three", "a three, dark on light", "a three, light on dark"]).tolist() == [0, -1, 1]


@pytest.mark.parametrize("prompt", ["a horse", "a one and a two", "threes"])
def test_a_prompt_without_one_digit_is_named(prompt):
    with pytest.raises(ValueError, match=r"names . digits, not one of zero, one"):
        digits_of([prompt])


def test_the_judge_turns_what_is_dark_on_light():
    images, _ = real_digits("test")
    sign = torch.tensor([1.0, -1.0, 0.0, 0.0])
    x = torch.stack([images[0], -images[1], images[2], -images[3]])
    assert torch.equal(light_on_dark(x, sign), images[:4])
