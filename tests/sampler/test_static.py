import torch

from tests.scheduler.paths import path
from tests.search.problems import curved
from tpdm.registry import build
from tpdm.sampler.grid_file import write_table
from tpdm.search.least_squares import table


def test_a_searched_schedule_is_drawn_as_it_was_searched(tmp_path):
    """From the file of a table, to the same error bit by bit."""
    problem = curved("ddpm")
    found = table(problem, 3, 4)
    write_table(tmp_path / "table.json", found)
    cfg = {"name": "static", "num_steps": 3, "grid": str(tmp_path / "table.json"), "step": {"name": "ab2"}}
    sampler = build("sampler", cfg)
    sampler.check(path("ddpm"))
    trajectory = sampler(problem.denoiser, problem.noise, problem.cond, range(len(problem)))
    assert torch.equal(problem.error(trajectory.x0), problem.cost(found[3]))
    assert (trajectory.nfe == 3).all()
    assert sampler.title == "ab2"
