import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.objective.ppo import importance_ratio, ppo_clip

finite = st.floats(-2, 2)


@settings(deadline=None)
@given(new=finite, old=finite, advantage=st.floats(-4, 4), clip=st.floats(0.05, 0.5))
def test_it_is_equation_7(new, old, advantage, clip):
    new, old, advantage = (torch.tensor([x]) for x in (new, old, advantage))
    ratio = (new - old).exp()
    inside = (1 - clip <= ratio) & (ratio <= 1 + clip)
    bound = torch.where(ratio > 1, 1 + clip, 1 - clip)
    gain = torch.where(inside, ratio * advantage, torch.minimum(ratio * advantage, bound * advantage))
    torch.testing.assert_close(ppo_clip(new, old, advantage, clip), -gain)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.0, 1.0, True),
        (1.0, -1.0, True),
        (1.3, 1.0, False),
        (1.3, -1.0, True),
        (0.7, -1.0, False),
        (0.7, 1.0, True),
    ],
)
def test_a_trajectory_that_has_moved_far_enough_is_pulled_no_further(ratio, advantage, moves):
    log_prob = torch.tensor([ratio]).log().requires_grad_()
    ppo_clip(log_prob, torch.zeros(1), torch.tensor([advantage]), clip=0.2).sum().backward()
    torch.testing.assert_close(log_prob.grad, torch.tensor([-ratio * advantage if moves else 0.0]))


def test_importance_is_a_ratio_of_probabilities():
    torch.testing.assert_close(
        importance_ratio(torch.tensor([0.6]).log(), torch.tensor([0.3]).log()), torch.tensor([2.0])
    )
