"""The trajectory reward is a distance: zero at the target and nowhere above."""

import torch

from tpdm.registry import build

CFG = {"name": "trajectory", "cost": {"name": "linear", "cost": 0.5}}


def test_it_is_minus_the_mean_squared_error_of_each_sample():
    reward = build("reward", CFG)
    target = torch.randn(5, 1, 4, 4)
    offset = torch.tensor([0.0, 1.0, -2.0, 0.5, 3.0])
    score = reward(target + offset.view(-1, 1, 1, 1), torch.zeros(5, 1), target)
    torch.testing.assert_close(score, -offset.square())
    assert reward.uses_target


def test_its_cost_comes_built():
    reward = build("reward", CFG)
    total = reward.cost(torch.tensor([-1.0, -1.0]), torch.tensor([2, 4]))
    torch.testing.assert_close(total, torch.tensor([-2.0, -3.0]))
