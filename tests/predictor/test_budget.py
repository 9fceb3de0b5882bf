"""Between measured means: what is asked for is what comes, and more calls never cost more."""

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Beta

from tpdm.predictor.budget import Budget, at_budget
from tpdm.types import CostRange

COSTS = CostRange(1e-6, 1e-2)
SHARES = torch.linspace(0, 1, 9, dtype=torch.float64)
means = st.lists(st.floats(1, 28), min_size=2, max_size=12)


def power_law(cost):
    """Where the error falls with the fourth power of the calls, and each costs the same."""
    return 6 * (cost / 2e-4) ** -0.2


def fitted(mean_nfe):
    return Budget.fit(COSTS, {cost: mean_nfe(cost) for cost in COSTS.at(SHARES).tolist()})


@settings(max_examples=50, deadline=None)
@given(cost=st.floats(1e-6, 1e-2))
def test_a_power_law_is_inverted_exactly(cost):
    assert fitted(power_law).cost_of(power_law(cost)) == pytest.approx(cost, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(nfe=means, asked=st.lists(st.floats(0, 1), min_size=2, max_size=8).map(sorted))
def test_whatever_was_measured_more_calls_ask_for_a_lower_cost(nfe, asked):
    costs = COSTS.at(torch.linspace(0, 1, len(nfe), dtype=torch.float64)).tolist()
    budget = Budget.fit(COSTS, dict(zip(costs, nfe, strict=True)))
    assert list(budget.cost) == sorted(set(budget.cost))
    assert list(budget.nfe) == sorted(set(budget.nfe), reverse=True)
    least, most = budget.nfe[-1], budget.nfe[0]
    found = [budget.cost_of(min(least + share * (most - least), most)) for share in asked]
    assert found == sorted(found, reverse=True)
    assert all(costs[0] <= cost <= costs[-1] * (1 + 1e-9) for cost in found)


@given(nfe=means)
@settings(max_examples=50, deadline=None)
def test_means_that_fall_are_kept_as_they_are(nfe):
    falling = sorted(set(nfe), reverse=True)
    costs = [1e-6 * 2**k for k in range(len(falling))]
    budget = Budget.fit(COSTS, dict(zip(costs, falling, strict=True)))
    assert list(budget.nfe) == falling
    assert [budget.cost_of(n) for n in falling] == pytest.approx(costs, rel=1e-9)


def test_means_that_rise_become_their_mean_at_their_geometric_middle():
    budget = Budget.fit(COSTS, {1e-6: 7.0, 1e-5: 3.0, 1e-4: 5.0, 1e-3: 2.0})
    assert list(budget.nfe) == [7, 4, 2]
    assert list(budget.cost) == pytest.approx([1e-6, 10**-4.5, 1e-3])


class Listening:
    """Answers with the cost that it was told."""

    def __call__(self, features, t, cost):
        return Beta(1 + cost, torch.ones_like(t))


def heard(nfe=None, cost=None):
    asked = at_budget(Listening(), {"budget": json.loads(json.dumps(asdict(fitted(power_law))))}, nfe, cost)
    return (asked(None, torch.ones(3, dtype=torch.float64)).concentration1 - 1).tolist()


def test_a_predictor_is_told_one_cost_for_all():
    assert heard(cost=1e-3) == pytest.approx([1e-3] * 3)
    assert heard(nfe=6) == pytest.approx([2e-4] * 3)
    assert heard() == pytest.approx([1e-4] * 3)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"nfe": 40.0}, r"nfe=40 is no mean that .* was calibrated for; accepted: 2.75 to 17.3"),
        ({"nfe": 1.0}, r"nfe=1 is no mean"),
        ({"cost": 1.0}, r"cost=1 is no cost that .* trained at; accepted: 1e-06 to 0.01"),
        ({"nfe": 6.0, "cost": 1e-3}, r"nfe=6 and cost=0.001 are given; give one of them"),
    ],
)
def test_what_it_cannot_be_asked(asked, line):
    with pytest.raises(ValueError, match=line):
        heard(**asked)


def test_one_that_was_trained_at_one_cost_has_no_budget():
    predictor = Listening()
    assert at_budget(predictor, {}, None, None) is predictor
    with pytest.raises(ValueError, match=r"nfe=6 asks for a budget, and this predictor was trained at one"):
        at_budget(predictor, {}, 6.0, None)


@pytest.mark.parametrize("bounds", [(1e-2, 1e-6), (1e-3, 1e-3), (0.0, 1.0)])
def test_costs_are_positive_and_in_order(bounds):
    with pytest.raises(ValueError, match=r"reward.cost.low=.* accepted: low above 0, and high at least 1.01"):
        CostRange(*bounds)
