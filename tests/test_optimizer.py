import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tpdm.optimizer import lr_factor
from tpdm.registry import build

ADAM = {"name": "adam", "lr": 1e-3, "betas": [0.9, 0.99], "schedule": "cosine"}
ADAM |= {"warmup": 0, "hold": 1.0, "final": 1.0}


@given(
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
    max_steps=st.integers(1, 5000),
    warmup=st.integers(0, 100),
    hold=st.floats(0, 1),
    final=st.floats(0, 1),
    at=st.floats(0, 1),
)
def test_the_rate_is_a_line_a_plateau_and_a_way_down(schedule, max_steps, warmup, hold, final, at):
    step = round(at * max_steps)
    line = min(1, (step + 1) / (warmup + 1))
    past = max(0, step - hold * max_steps)
    share = past / (max_steps - hold * max_steps) if past else 0
    left = {"cosine": 0.5 + 0.5 * math.cos(math.pi * share), "linear": 1 - share, "constant": 1}[schedule]
    expected = line * (final + (1 - final) * left)
    assert lr_factor(step, max_steps, schedule, warmup, hold, final) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_landmarks_of_the_rate(schedule):
    rate = [lr_factor(step, 1000, schedule, warmup=50, hold=0.5, final=0.1) for step in range(1001)]
    assert rate[0] == pytest.approx(1 / 51)
    assert rate[50] == rate[500] == 1
    assert rate[750] == pytest.approx(0.55)
    assert rate[1000] == pytest.approx(0.1)
    assert (rate[600] > 0.85) == (schedule == "cosine")  # flat at first, where a line is at 0.82
    assert [lr_factor(step, 10, schedule, 0, hold=1.0, final=0.0) for step in range(11)] == [1] * 11


def test_the_optimiser_follows_the_rate():
    layer = nn.Linear(2, 2)
    way = {"schedule": "linear", "warmup": 3, "hold": 0.5, "final": 0.0}
    optimizer, schedule = build("optimizer", ADAM | way)(layer.parameters(), 20)
    for step in range(20):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * lr_factor(step, 20, **way))
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("cfg", [ADAM, ADAM | {"name": "adamw", "weight_decay": 0.1}])
def test_steps_are_those_of_torch(cfg):
    ours, theirs = nn.Linear(3, 3), nn.Linear(3, 3)
    theirs.load_state_dict(ours.state_dict())
    decay = cfg.get("weight_decay", 0.0)
    expected = torch.optim.AdamW(theirs.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=decay)
    optimizer, _ = build("optimizer", cfg)(ours.parameters(), 10)
    for _ in range(3):
        for layer, step in ((ours, optimizer), (theirs, expected)):
            step.zero_grad()
            layer(torch.ones(1, 3)).square().sum().backward()
            step.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
