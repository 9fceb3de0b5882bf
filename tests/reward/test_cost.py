"""Longer never pays: the cost is monotone in NFE whatever the sign of the reward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.registry import ConfigError, build

rewards = st.floats(-100, 100, allow_subnormal=False, width=32)
gammas = st.floats(0, 1)


def costed(cfg, reward, nfe):
    cost = build("reward/cost", cfg)
    return cost(torch.full((len(nfe),), reward), torch.tensor(nfe))


@given(reward=rewards, gamma=gammas, nfe=st.lists(st.integers(1, 100), min_size=2, max_size=8).map(sorted))
@settings(max_examples=50, deadline=None)
def test_discounted_never_rises_with_nfe(reward, gamma, nfe):
    value = costed({"name": "discounted", "gamma": gamma}, reward, nfe)
    assert (value.diff() <= 1e-5 * abs(reward)).all()


@pytest.mark.parametrize("reward", [2.0, -2.0])
def test_discounted_prefers_the_shorter_of_two_equal_images(reward):
    short, long = costed({"name": "discounted", "gamma": 0.9}, reward, [5, 20])
    assert short > long


@given(reward=st.floats(0, 100, width=32), gamma=gammas, nfe=st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_discounted_is_the_published_discount_of_a_positive_reward(reward, gamma, nfe):
    value = costed({"name": "discounted", "gamma": gamma}, reward, [nfe])
    torch.testing.assert_close(value, torch.tensor([gamma**nfe * reward]), rtol=1e-5, atol=1e-5)


@given(low=rewards, high=rewards, gamma=gammas, nfe=st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_discounted_keeps_the_order_of_images_of_equal_length(low, high, gamma, nfe):
    low, high = sorted((low, high))
    cost = build("reward/cost", {"name": "discounted", "gamma": gamma})
    worse, better = cost(torch.tensor([low, high]), torch.tensor([nfe, nfe]))
    assert worse <= better + 1e-4


@given(a=rewards, b=rewards, shift=rewards, nfe=st.tuples(st.integers(1, 50), st.integers(1, 50)))
@settings(max_examples=50, deadline=None)
def test_linear_compares_two_runs_the_same_after_a_constant_is_added(a, b, shift, nfe):
    cost = build("reward/cost", {"name": "linear", "cost": 0.01})
    reward, nfe = torch.tensor([a, b], dtype=torch.float64), torch.tensor(nfe)
    torch.testing.assert_close(cost(reward + shift, nfe).diff(), cost(reward, nfe).diff())


def test_linear_is_reward_minus_cost_per_call():
    value = costed({"name": "linear", "cost": 0.25}, -1.0, [0, 1, 4])
    torch.testing.assert_close(value, torch.tensor([-1.0, -1.25, -2.0]))


def test_drawn_takes_each_trajectorys_own_cost():
    cost = build("reward/cost", {"name": "drawn", "low": 0.1, "high": 0.5})
    value = cost(torch.tensor([-1.0, -1.0]), torch.tensor([4, 4]), torch.tensor([0.1, 0.5]))
    torch.testing.assert_close(value, torch.tensor([-1.4, -3.0]))


@pytest.mark.parametrize(
    ("cfg", "key"),
    [({"name": "linear", "cost": -1.0}, "cost=-1.0"), ({"name": "discounted", "gamma": 1.5}, "gamma=1.5")],
)
def test_a_cost_that_would_pay_for_steps_is_refused(cfg, key):
    with pytest.raises(ConfigError, match=key):
        build("reward/cost", cfg)
