"""What is kept is found again by all that decides it, and by nothing else."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from tests.arena.parts import CONTESTANTS, arena, conditions
from tpdm.arena.camp import Camp
from tpdm.arena.sets import APART, EVALUATION, FIRST, LEARNING, MATCHING, SEARCH, sha256_of
from tpdm.registry import build
from tpdm.sampler.grid import uniform
from tpdm.suite import arena as suite
from tpdm.types import Text

TABLE = {"table": CONTESTANTS["table"]}
NAMES = {SEARCH: "search", LEARNING: "learning", MATCHING: "matching"}


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


def test_results_are_known_by_the_code_of_what_plays_and_of_what_judges(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "source_sha256", sorted)
    code = arena(tmp_path, contestants=TABLE).camp.store.deciding["code"]
    assert code == ["tpdm.arena.tournament", "tpdm.evaluation.digits"]


def grid_in_suite(file):
    """As `suite.grids` has it: with its choices bound, and waiting for a number of steps."""
    return build("sampler/grid", grid_of(file))


def relabelled(*places):
    """Data of which those drawn for these places have other labels than before."""

    def batch(n, generator):
        odd = generator.initial_seed() in [FIRST + place * APART for place in places]
        _, labels = conditions(n, generator)
        return None, (labels + 5 * odd) % 12

    return SimpleNamespace(batch=batch)


def kept(one):
    return {path.name for path in one.camp.store.folder.iterdir()}


def test_labels_that_one_seed_judges_on_change_the_ends_and_results_of_that_seed_alone(tmp_path):
    settings = {"contestants": TABLE, "targets": [2], "samplers": {}, "grids": {"uniform": uniform}}
    first, changed = arena(tmp_path, **settings), relabelled(EVALUATION + 1)
    first()
    before = kept(first)
    second, anew = (arena(folder, **settings, data=changed) for folder in (tmp_path, tmp_path / "anew"))
    second()
    for seed, same in {0: True, 1: False}.items():
        old, new, true = (one.ring(seed) for one in (first, second, anew))
        assert torch.equal(new.evaluation.target, true.evaluation.target)
        assert torch.equal(new.played("uniform", 2).error, true.played("uniform", 2).error)
        assert torch.equal(new.played("uniform", 2).error, old.played("uniform", 2).error) == same
    made = {name.rsplit("-", 1)[0] for name in kept(second) - before}
    played = {f"{match}_seed1" for match in ("table_1", "table_2", "table_3", "uniform_2")}
    assert made == {f"ends_{EVALUATION + 1}_0", *played}


@pytest.mark.parametrize("place", [SEARCH, LEARNING, MATCHING])
def test_labels_that_something_is_found_on_change_all_that_is_kept(place, tmp_path):
    one, other = arena(tmp_path), arena(tmp_path, data=relabelled(place))
    assert one.camp.store.deciding == arena(tmp_path).camp.store.deciding != other.camp.store.deciding
    assert not torch.equal(*(getattr(made.camp.sets, NAMES[place]).cond for made in (one, other)))


TEXT = Text(torch.zeros(2, 3), torch.zeros(2, 4, 5), torch.ones(2, 4, dtype=torch.bool))
ONE_OTHER = {
    "labels": (torch.tensor([[1], [2]]), torch.tensor([[1], [3]])),
    "captions": (["a cat", "a dog"], ["a cat", "a dot"]),
    "encoded": (TEXT, replace(TEXT, tokens=torch.full_like(TEXT.tokens, 1e-6))),
}


@pytest.mark.parametrize("kind", ONE_OTHER)
def test_whatever_data_ask_for_is_known_by_all_of_it(kind):
    one, other = ONE_OTHER[kind]
    assert sha256_of(one) == sha256_of(one) != sha256_of(other)


def changed(camp, name, **choices):
    """The keys of all where one has other choices."""
    others = {**camp.contestants, name: replace(camp.contestants[name], **choices)}
    other = Camp(camp.runner, camp.sets, others, camp.baseline, camp.store)
    return {who for who in others if other.key(who) != camp.key(who)}


def test_whoever_is_no_schedule_for_all_is_played_again_where_the_baseline_is_another(tmp_path):
    """They start from it, or are held to its lengths; a grid or a solver has nothing to do with it."""
    camp = arena(tmp_path).camp
    static = {name for name, one in camp.contestants.items() if one.kind == "static"}
    apart = static - {"table", "mean_schedule"}
    assert apart == {"uniform", "shifted", "heun"}
    assert changed(camp, "table", iterations=2) == set(camp.contestants) - apart


def test_whoever_leans_on_another_is_played_again_where_that_one_is_another(tmp_path):
    camp = arena(tmp_path).camp
    leaning = {"mean_schedule", "shuffled", "own_steps"}
    assert changed(camp, "adaptive", step="ddim") == {"adaptive"} | leaning
    assert changed(camp, "allocator", most=6) == {"allocator"}
