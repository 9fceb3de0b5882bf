import json
import re

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import SHAPE, conditions, tiny_denoiser
from tpdm.registry import build
from tpdm.sampler.grid_file import read_grid, read_table, write_table
from tpdm.sampler.noise import initial_noise
from tpdm.scheduler.flow import Flow
from tpdm.search.levels import fall

tables = st.dictionaries(st.integers(1, 12), st.integers(0, 99), min_size=1, max_size=4).map(
    lambda seeds: {
        n: fall(torch.randn(n, generator=torch.Generator().manual_seed(seed))) for n, seed in seeds.items()
    }
)


@given(tables)
def test_a_table_comes_back_bit_by_bit(tmp_path_factory, table):
    file = tmp_path_factory.getbasetemp() / "table.json"
    write_table(file, table)
    again = read_table(file)
    assert list(again) == sorted(table)
    for n, levels in table.items():
        assert torch.equal(again[n], levels)
        assert torch.equal(build("sampler/grid", {"name": "learned", "path": str(file)})(n), levels)
        theirs = FlowMatchEulerDiscreteScheduler(shift=1.0)
        theirs.set_timesteps(sigmas=json.loads(file.read_text())[str(n)][:-1])
        assert torch.equal(theirs.sigmas, levels)


@pytest.mark.parametrize("num_steps", [1, 3, 8])
def test_diffusers_draws_along_a_file_what_euler_does(tmp_path, num_steps):
    """Bit by bit from the same velocities. Ours are read off both ends of the path, which a network's own are
    the difference of, but for float32's rounding."""
    denoiser, cond = tiny_denoiser(Flow(1.0, "velocity")), conditions(8)
    noise, file = initial_noise(range(8), SHAPE), tmp_path / "table.json"
    write_table(file, {num_steps: fall(torch.randn(num_steps, generator=torch.Generator().manual_seed(3)))})
    ours = build("sampler", {"name": "euler", "num_steps": num_steps, "grid": str(file)})

    def drawn(velocity):
        theirs, x = FlowMatchEulerDiscreteScheduler(shift=1.0), noise
        theirs.set_timesteps(sigmas=json.loads(file.read_text())[str(num_steps)][:-1])
        for sigma, timestep in zip(theirs.sigmas, theirs.timesteps, strict=False):
            assert timestep == 1000 * sigma
            x = theirs.step(velocity(x, sigma.expand(8)), timestep, x, return_dict=False)[0]
        return x

    def read_off(x, t):
        p = denoiser(x, t, cond)
        return p.eps - p.x0

    x0 = ours(denoiser, noise, cond, range(8)).x0
    assert torch.equal(drawn(read_off), x0)
    own = drawn(lambda x, t: denoiser.backbone(x, 1000 * t, cond)[0])
    torch.testing.assert_close(own, x0, atol=2e-6, rtol=0)
    assert (x0 - noise).std() > 0.1


def test_a_row_that_is_not_there_is_told_with_those_that_are(tmp_path):
    file = tmp_path / "table.json"
    write_table(file, {4: fall(torch.zeros(4)), 2: fall(torch.zeros(2))})
    line = re.escape(f"sampler.num_steps=3, but sampler.grid.path={file} has only N = 2, 4")
    with pytest.raises(ValueError, match=line):
        read_grid(file, 3)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"levels": [1, 0]}', "is no JSON table of schedules"),
        ('{"2": [1, 0]}', "2 is a schedule of 1 steps"),
        ('{"2": [1, 0.5, 0.6]}', "2 does not fall from 1 to 0"),
        ('{"2": 3}', "2 is no JSON list"),
        ("{", "is not JSON"),
        ('{"02": [1, 0.5, 0]}', "is no JSON table of schedules"),  # or "2" beside it would be lost
        ('{"2": [1, 0.5, 0], "2": [1, 0.1, 0]}', "is not JSON .*'2' is there twice"),
        (f'{{"{"1" * 5_000}": [1, 0]}}', "is no JSON table of schedules"),
        (f'{{"2": [1, {"1" * 4_000}, 0]}}', "2 does not fall from 1 to 0"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, complaint):
    file = tmp_path / "table.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"table\.json.*{complaint}") as error:
        read_grid(file, 2)
    assert len(str(error.value)) < 500


def test_a_files_name_alone_is_a_grid(tmp_path, composed):
    """As sampler.grid=FILE.json has it on a command line."""
    file = tmp_path / "grid.json"
    file.write_text("[1.0, 0.25, 0.0]")
    settings = composed("sampler=euler", f"sampler.grid={file}", "sampler.num_steps=2")["sampler"]
    assert settings["grid"] == str(file)
    assert build("sampler", settings).grid(2).tolist() == [1.0, 0.25, 0.0]
    with pytest.raises(ValueError, match=r"sampler\.grid='even'"):
        build("sampler", {**settings, "grid": "even"})
