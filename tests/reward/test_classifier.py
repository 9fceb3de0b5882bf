"""The classifier reward against averages computed by hand, from a classifier whose answers are known."""

import torch

from tpdm.registry import build

CFG = {"name": "classifier", "cost": {"name": "linear", "cost": 0.0}}
EMPTY = 10


class Known:
    """Answers with the image's own pixels, one per cell."""

    empty = EMPTY

    def log_prob(self, x, cond):
        return x.flatten(1)


def test_only_cells_that_were_to_hold_a_digit_count_unless_there_are_none():
    reward = build("reward", CFG, classifier=Known())
    cond = torch.tensor([[3, EMPTY, 5, EMPTY], [EMPTY, 0, EMPTY, EMPTY], [1, 2, 3, 4], [EMPTY] * 4])
    x0 = torch.tensor(
        [[-1.0, -8.0, -3.0, -8.0], [-8.0, -5.0, -8.0, -8.0], [-1.0, -2.0, -3.0, -6.0], [-4.0] * 4]
    )
    torch.testing.assert_close(reward(x0, cond, None), torch.tensor([-2.0, -5.0, -3.0, -4.0]))
    assert not reward.uses_target


def test_a_hopeless_empty_cell_does_not_spoil_a_scene():
    reward = build("reward", CFG, classifier=Known())
    x0, cond = torch.tensor([[-1.0, -torch.inf]]), torch.tensor([[3, EMPTY]])
    torch.testing.assert_close(reward(x0, cond, None), torch.tensor([-1.0]))
