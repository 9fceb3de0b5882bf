"""A mean schedule for diffusers, whose scheduler visits exactly these sigmas."""

import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from tests.runs import command
from tpdm import sample
from tpdm.exporting import check_exportable
from tpdm.scheduler.ddpm import VariancePreserving


def test_diffusers_uses_exactly_the_sigmas_that_a_run_exports(finished, tmp_path):
    out = tmp_path / "drawn.png"
    ended = command(
        sample.main, f"run={finished}", "seeds=0-7", f"out={out}", "export=diffusers", "batch_size=3"
    )
    assert ended.status == 0, ended.err
    folder = tmp_path / "drawn"
    sigmas = json.loads((folder / "sigmas.json").read_text())
    assert len(sigmas) == round(float(ended.out.split("mean NFE ")[1].split()[0]))
    assert sigmas[0] == 1
    assert sigmas == sorted(sigmas, reverse=True)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(sigmas=sigmas)
    assert torch.equal(scheduler.sigmas, torch.tensor([*sigmas, 0.0]))
    shifted = FlowMatchEulerDiscreteScheduler(shift=3.0)
    shifted.set_timesteps(sigmas=sigmas)
    assert not torch.allclose(shifted.sigmas, scheduler.sigmas)
    assert json.loads((folder / "grid.json").read_text()) == [*sigmas, 0.0]


def test_another_path_has_no_such_sigmas():
    with pytest.raises(ValueError, match="export=diffusers is for the flow path"):
        check_exportable(VariancePreserving.__new__(VariancePreserving))
