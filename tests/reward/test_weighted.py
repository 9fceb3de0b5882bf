"""A weighted reward is the sum of its terms times their weights, and pays for steps once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.registry import ConfigError, build

COST = {"name": "linear", "cost": 0.5}


class Known:
    """Answers -1 for every cell."""

    empty = 10

    def log_prob(self, x, cond):
        return -torch.ones(cond.shape)


def weighted(terms):
    return build("reward", {"name": "weighted", "terms": terms, "cost": COST}, classifier=Known())


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
