from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.objective.ppo import ppo_clip
from tpdm.objective.rloo import rloo, standardise, standardise_alike

SAMPLES = 3
LOGITS, REWARD = torch.tensor([0.3, -1.0, 0.7]), torch.tensor([1.0, -2.0, 0.5])
rewards = st.lists(st.integers(-100, 100), min_size=8, max_size=8).map(
    lambda x: torch.tensor(x).float().view(2, 4)
)


def test_the_gradient_is_unbiased_by_enumeration():
    """Over all draws of three samples from three actions, its mean is the gradient of the expected reward."""
    logits = LOGITS.clone().requires_grad_()
    (expected,) = torch.autograd.grad(logits.softmax(0) @ REWARD, logits)

    log_p, mean = logits.log_softmax(0), torch.zeros(3)
    for draw in product(range(3), repeat=SAMPLES):
        log_prob = log_p[list(draw)]
        loss = ppo_clip(log_prob, log_prob.detach(), rloo(REWARD[None, list(draw)])[0], clip=0.2).mean()
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        mean -= log_prob.sum().exp().detach() * gradient
    torch.testing.assert_close(mean, expected)


def test_its_variance_is_below_that_of_the_plain_reward():
    log_p = LOGITS.log_softmax(0)
    draws = list(product(range(3), repeat=SAMPLES))
    weight = torch.stack([log_p[list(d)].sum().exp() for d in draws])
    one_hot = torch.nn.functional.one_hot(torch.tensor(draws), 3) - LOGITS.softmax(0)  # d log p / d logits

    def variance(advantage):
        gradient = (one_hot * advantage[..., None]).mean(1)  # (27, 3)
        mean = weight @ gradient
        return weight @ (gradient - mean).square().sum(1)

    reward = 5 + torch.stack([REWARD[list(d)] for d in draws])
    assert variance(rloo(reward)) < 0.2 * variance(reward)


@settings(deadline=None)
@given(reward=rewards)
def test_each_sample_stands_against_the_mean_of_its_siblings(reward):
    expected = [[row[s] - (row.sum() - row[s]) / 3 for s in range(4)] for row in reward]
    torch.testing.assert_close(rloo(reward), torch.tensor(expected), atol=1e-4, rtol=0)


@settings(deadline=None)
@given(reward=rewards, constants=st.lists(st.integers(-(2**12), 2**12), min_size=2, max_size=2))
def test_a_constant_of_a_condition_changes_no_preference(reward, constants):
    moved = reward - torch.tensor(constants)[:, None]
    assert torch.equal(rloo(moved), rloo(reward))
    assert torch.equal(standardise(rloo(moved), clip=4.0), standardise(rloo(reward), clip=4.0))


@settings(deadline=None)
@given(reward=rewards.filter(lambda r: rloo(r).std() > 0), scale=st.floats(1e-3, 1e3))
def test_standardised_advantages_have_no_unit_of_reward(reward, scale):
    advantage = rloo(reward)
    torch.testing.assert_close(standardise(scale * advantage, 10.0), standardise(advantage, 10.0))
    torch.testing.assert_close(standardise(advantage, 10.0).std(), torch.tensor(1.0))
    assert standardise(advantage, 0.5).abs().max() <= 0.5


@settings(deadline=None)
@given(reward=st.floats(-1e3, 1e3), samples=st.integers(2, 9))
def test_equal_rewards_are_no_reason_to_move(reward, samples):
    """Not even by their rounding errors, which standardising would blow up."""
    assert not standardise(rloo(torch.full((4, samples), reward)), 4.0).any()


def test_at_one_cost_alike_is_as_standardised():
    advantage = rloo(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)))
    alike = standardise_alike(advantage, torch.full((32,), -7.0), 4.0)
    torch.testing.assert_close(alike, standardise(advantage, 4.0), rtol=5e-3, atol=0)


def test_cheap_and_dear_groups_count_alike_and_indifferent_ones_stay_small():
    """Rewards in units of a cost that spans four decades; in every fourth group little is at stake."""
    log_cost = torch.linspace(-14, -5, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(1))]
    reward = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * log_cost.exp()[:, None]
    reward[::4] *= 1e-3
    alike = standardise_alike(rloo(reward), log_cost, 100.0)
    spread = alike.square().mean(1).sqrt()
    cheap, middle, dear = (spread[order].mean() for order in log_cost.argsort().chunk(3))
    assert max(cheap, middle, dear) < 1.5 * min(cheap, middle, dear)
    assert spread[::4].max() < 0.02
    assert standardise_alike(rloo(reward), log_cost, 0.5).abs().max() <= 0.5


def test_alike_blows_up_no_rounding_errors():
    assert not standardise_alike(rloo(torch.full((4, 3), 7.3)), torch.zeros(4), 4.0).any()
