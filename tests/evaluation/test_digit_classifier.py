"""The judge knows held-out digits, knows an empty cell, and is the same judge every time."""

import pytest
import torch

from tpdm.data.digit_scenes import DigitScenes
from tpdm.data.digits import EMPTY, real_digits, split_cells
from tpdm.evaluation import digit_classifier
from tpdm.evaluation.digit_classifier import (
    augmented,
    digit_accuracy,
    digit_features,
    fit_digit_classifier,
    with_empty,
)
from tpdm.evaluation.frechet import frechet, real_floor


@pytest.fixture(scope="module")
def judge():
    return fit_digit_classifier(seed=0)


@pytest.fixture(scope="module")
def scenes():
    return DigitScenes(2, 2, 0, None, split="test").batch(500, torch.Generator().manual_seed(0))


def test_it_reads_held_out_digits_and_empty_cells(judge):
    images, labels = real_digits("test")
    assert (judge(images).argmax(1) == labels).float().mean() >= 0.97
    assert judge(torch.full((1, 1, 8, 8), -1.0)).argmax() == EMPTY


def test_it_reads_scenes_cell_by_cell(judge, scenes):
    x0, cond = scenes
    cells = split_cells(x0)
    for slot in range(cond.shape[1]):
        torch.testing.assert_close(judge.logits(x0)[:, slot], judge(cells[:, slot]), rtol=1e-4, atol=1e-4)
    assert digit_accuracy(judge, x0, cond) >= 0.97
    assert judge.correct(x0, cond)[cond == EMPTY].all()


def test_log_prob_is_that_of_the_asked_symbol(judge, scenes):
    x0, cond = scenes
    every = torch.stack([judge.log_prob(x0, torch.full_like(cond, symbol)) for symbol in range(11)], -1)
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(cond.shape))
    asked = judge.log_prob(x0, cond)
    torch.testing.assert_close(asked, every.gather(-1, cond[..., None])[..., 0])
    assert ((asked == every.amax(-1)) == judge.correct(x0, cond)).all()


def test_accuracy_counts_the_cells_that_were_to_hold_a_digit(judge, scenes):
    """Every digit is asked to be the next one, so that nearly none is right; empty cells do not help."""
    x0, cond = scenes
    wrong = torch.where(cond == EMPTY, EMPTY, (cond + 1) % 10)
    assert digit_accuracy(judge, x0, wrong) <= 0.03


def test_features_are_those_of_the_digits_with_unit_spread(judge, scenes):
    x0, cond = scenes
    features = digit_features(judge, x0, cond)
    assert features.shape == ((cond < EMPTY).sum(), digit_classifier.WIDTH)
    torch.testing.assert_close(judge.features(real_digits("train")[0]).std(), torch.tensor(1.0))


def test_scenes_of_held_out_digits_are_nearer_to_them_than_the_training_digits(judge, scenes):
    held_out = judge.features(real_digits("test")[0])
    distance = frechet(digit_features(judge, *scenes), held_out)
    assert 0 < distance < real_floor(judge)


def test_it_is_frozen(judge):
    assert not judge.training
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_the_same_seed_trains_the_same_judge_and_touches_no_global_state(monkeypatch):
    monkeypatch.setattr(digit_classifier, "STEPS", 5)
    before = torch.get_rng_state()
    first, again, other = fit_digit_classifier(3), fit_digit_classifier(3), fit_digit_classifier(4)
    assert torch.get_rng_state().equal(before)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_augmentation_moves_by_a_pixel_at_most(monkeypatch):
    """A dot in the middle stays one dot in the nine places around it, and reaches them all."""
    monkeypatch.setattr(digit_classifier, "MAX_NOISE", 0.0)
    dot = torch.full((500, 1, 8, 8), -1.0)
    dot[:, :, 4, 4] = 1.0
    moved = augmented(dot, torch.Generator().manual_seed(0))
    assert ((moved == 1).flatten(1).sum(1) == 1).all()
    places = {tuple(place) for place in (moved[:, 0] == 1).nonzero()[:, 1:].tolist()}
    assert places == {(row, col) for row in (3, 4, 5) for col in (3, 4, 5)}


def test_empty_cells_are_a_class_like_the_others():
    images, labels = with_empty(*real_digits("train"))
    assert (labels == EMPTY).sum() == 125
    assert (images[labels == EMPTY] == -1).all()
