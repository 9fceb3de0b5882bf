"""A weighted reward is the sum of its terms times their weights, and pays for steps once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tpdm.registry
from tpdm.registry import ConfigError, build
from tpdm.reward.cost import Cost

COST = {"name": "linear", "cost": 0.5}


class Known:
    """Answers -1 for every cell."""

    empty = 10

    def log_prob(self, x, cond):
        return -torch.ones(cond.shape)


def weighted(terms, scorers=None, normalise="none"):
    cfg = {"name": "weighted", "terms": terms, "scorers": scorers or {}, "normalise": normalise, "cost": COST}
    return build("reward", cfg, classifier=Known(), device=torch.device("cpu"))


class Brightness:
    """Mean of the image, times a choice, plus the letters of the prompt."""

    uses_target, uses_prompts = False, True

    def __init__(self, factor: float, cost: Cost):
        self.factor, self.cost = factor, cost

    def __call__(self, x0, cond, target, prompts=None):
        return self.factor * x0.mean((1, 2, 3)) + torch.tensor([len(prompt) for prompt in prompts])


@pytest.fixture(scope="module", autouse=True)
def known():
    """What is registered here is gone after these tests."""
    key = ("reward", "brightness")
    tpdm.registry._components[key] = Brightness
    yield
    del tpdm.registry._components[key]


BRIGHT = {"bright": {"name": "brightness", "factor": 3.0, "cost": COST}}


def test_a_reward_with_choices_has_them_under_its_own_name_and_reads_the_prompts():
    reward = weighted({"trajectory": 1.0, "bright": 0.5}, BRIGHT)
    assert reward.uses_prompts
    x0 = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    expected = torch.tensor([-1.0 + 0.5 * (3 + 1), -4.0 + 0.5 * (6 + 2)])
    torch.testing.assert_close(reward(x0, None, torch.zeros_like(x0), ["a", "ab"]), expected)


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_a_normalised_reward_does_not_depend_on_its_units(scale, shift):
    x0 = torch.randn(8, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bright = {"bright": {"name": "brightness", "factor": scale, "cost": COST}}
    reward = weighted({"bright": 2.0}, bright, "batch")
    seen = reward(x0 + shift, None, None, [""] * 8)
    mean = x0.mean((1, 2, 3))
    torch.testing.assert_close(seen, 2 * (mean - mean.mean()) / mean.std())


def test_what_is_not_a_number_spoils_no_other_image_of_a_normalised_batch():
    x0 = torch.tensor([1.0, torch.nan, 3.0, 5.0]).view(4, 1, 1, 1)
    seen = weighted({"bright": 1.0}, BRIGHT, "batch")(x0, None, None, [""] * 4)
    torch.testing.assert_close(seen, torch.tensor([-1.0, torch.nan, 0.0, 1.0]), equal_nan=True)


@given(trajectory=st.floats(-10, 10), classifier=st.floats(-10, 10))
@settings(max_examples=50, deadline=None)
def test_it_is_linear_in_its_terms(trajectory, classifier):
    reward = weighted({"trajectory": trajectory, "classifier": classifier})
    x0, target, cond = torch.full((3, 1, 8, 8), 2.0), torch.zeros(3, 1, 8, 8), torch.zeros(3, 1).long()
    expected = torch.full((3,), -4.0 * trajectory - classifier)  # the terms are -4 and -1
    torch.testing.assert_close(reward(x0, cond, target), expected)


def test_steps_are_paid_once():
    reward = weighted({"trajectory": 1.0, "classifier": 1.0})
    torch.testing.assert_close(reward.cost(torch.zeros(2), torch.tensor([1, 2])), torch.tensor([-0.5, -1.0]))


@pytest.mark.parametrize(("names", "uses"), [(["trajectory", "classifier"], True), (["classifier"], False)])
def test_it_asks_for_a_target_if_a_term_does(names, uses):
    assert weighted(dict.fromkeys(names, 1.0)).uses_target is uses


def test_bad_terms_are_named():
    with pytest.raises(ConfigError, match=r"reward\.terms\.trajectry is no reward.*trajectory"):
        weighted({"trajectry": 1.0})
    with pytest.raises(ConfigError, match=r"reward\.terms\.trajectory='much'"):
        weighted({"trajectory": "much"})
    with pytest.raises(ConfigError, match=r"reward\.terms\.weighted is no reward"):
        weighted({"weighted": 1.0})
    with pytest.raises(ConfigError, match=r"reward\.terms is empty"):
        weighted({})
    with pytest.raises(ConfigError, match=r"reward\.terms\.http has choices; add them with \+reward@"):
        weighted({"http": 1.0})
