import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from tpdm.registry import build
from tpdm.scheduler.flow import Flow


def test_warp_is_the_shift_of_diffusers():
    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas  # its 1000 training levels, shifted once
    u = torch.arange(1000, 0, -1) / 1000
    torch.testing.assert_close(Flow(3.0, "velocity").warp(u), theirs)


def test_shift_moves_positions_but_not_the_path():
    t = torch.rand(16)
    assert torch.equal(torch.stack(Flow(3.0, "velocity")(t)), torch.stack(Flow(1.0, "velocity")(t)))
    assert torch.equal(Flow(1.0, "velocity").warp(t), t)


@pytest.mark.parametrize("predicts", ["eps", "eps_and_variance"])
def test_noise_cannot_be_predicted_where_the_data_has_no_weight(predicts):
    with pytest.raises(ValueError, match=f"scheduler.predicts='{predicts}' .* alpha\\(1\\) = 0"):
        Flow(1.0, predicts)


def test_it_is_built_by_name():
    flow = build("scheduler", {"name": "flow", "shift": 2.0, "predicts": "x0"})
    assert (flow.shift, flow.predicts) == (2.0, "x0")
    torch.testing.assert_close(flow.timestep(torch.tensor([0.25])), torch.tensor([250.0]))
