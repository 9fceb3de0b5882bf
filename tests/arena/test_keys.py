"""What is kept is found again by all that decides it, and by nothing else."""

import json
from functools import partial

import pytest
import torch

from tests.arena.parts import CONTESTANTS, arena
from tpdm.registry import build

TABLE = {"table": CONTESTANTS["table"]}


def grid_of(file):
    return {"name": "learned", "path": str(file)}


def euler_on(file):
    """As `suite.samplers` has it: on one file's grid."""
    return partial(build, "sampler", {"name": "euler", "num_steps": 3, "grid": grid_of(file)})


@pytest.mark.parametrize("kind", ["grids", "samplers"])
def test_a_grid_file_that_holds_another_grid_is_played_again(kind, tmp_path):
    file = tmp_path / "mine.json"
    mine = {"grids": grid_in_suite(file), "samplers": euler_on(file)}[kind]
    errors = []
    for levels in ([1, 0.8, 0.4, 0], [1, 0.5, 0.1, 0], [1, 0.8, 0.4, 0]):
        file.write_text(json.dumps(levels))
        one = arena(tmp_path, **{"contestants": TABLE, "grids": {}, "samplers": {}, kind: {"mine": mine}})
        outcome = one.ring(0).played("mine", 3)
        assert outcome.found["levels"] == [pytest.approx(levels)]
        errors.append(outcome.error)
    assert not torch.equal(errors[0], errors[1])
    assert torch.equal(errors[0], errors[2])
    assert len(list(one.camp.store.folder.glob("mine_3_seed0-*"))) == 2


def grid_in_suite(file):
    """As `suite.grids` has it: with its choices bound, and waiting for a number of steps."""
    return build("sampler/grid", grid_of(file))
