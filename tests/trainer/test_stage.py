from itertools import product

import pytest
import torch
from torch import nn

from tests.trainer.parts import make_stage


def draws(stage, step):
    return torch.rand(3, generator=stage.generator(step)).tolist()


def test_a_step_draws_the_same_whenever_it_is_taken(tmp_path):
    assert draws(make_stage(tmp_path), 7) == draws(make_stage(tmp_path / "other"), 7)


def test_two_stages_two_seeds_and_two_steps_draw_differently(tmp_path):
    """All stages that a run may have, with one seed."""
    stages = product(("denoiser", "predictor", "time_only", "codec", "lr_find"), (0, 1))
    seen = [draws(make_stage(tmp_path, *stage), step) for stage in stages for step in range(3)]
    assert len(set(map(tuple, seen))) == len(seen)


def test_the_global_source_is_seeded_at_every_step(tmp_path):
    """It feeds dropout alone, and must not repeat what the step's own generator draws."""
    seen = [
        (torch.rand(3).tolist(), draws(stage, step))
        for stage in [make_stage(tmp_path)]
        for step in stage.steps(3, 10, {})
    ]
    torch.manual_seed(99)
    again = [torch.rand(3).tolist() for _ in make_stage(tmp_path / "again").steps(3, 10, {})]
    assert [dropout for dropout, _ in seen] == again
    assert all(dropout != own for dropout, own in seen)


def test_it_goes_on_after_the_newest_checkpoint(tmp_path):
    parts = {"layer": nn.Linear(1, 1, bias=False)}
    with torch.no_grad():
        for step in make_stage(tmp_path).steps(5, 2, parts):
            parts["layer"].weight.fill_(step)
            if step == 3:
                break  # after this step's work and before its save
    parts["layer"].weight.data.fill_(-1)
    steps = make_stage(tmp_path).steps(5, 2, parts)
    assert next(steps) == 2
    assert parts["layer"].weight.item() == 1
    steps.close()


def test_what_is_no_number_is_named_with_its_step_and_seed(tmp_path):
    stage = make_stage(tmp_path, "denoiser", seed=3)
    stage.check_finite(torch.tensor(1.0), 4)
    for value in (torch.nan, torch.inf):
        with pytest.raises(
            FloatingPointError, match=r"the denoiser's loss is (nan|inf) at step 4, rank 0, seed 3"
        ):
            stage.check_finite(torch.tensor(value), 4)
