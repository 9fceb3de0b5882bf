"""Which look a contestant has, and where its curve stands."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir

from tests.arena.test_telling import stands
from tpdm.arena.looks import NAMED, OTHERS, called, curves, in_calls, look
from tpdm.cli import config_dir

KINDS = {"table": "static", "gits": "static", "adaptive": "adaptive", "mine": "adaptive", "bound": "bound"}


def camp(*names, baseline="table"):
    """Of contestants by their names alone."""
    made = {n: SimpleNamespace(kind=KINDS[n], adapts=KINDS[n] == "adaptive") for n in names}
    return SimpleNamespace(baseline=baseline, contestants=made)


@pytest.mark.parametrize("name", ["adaptive", "mine", "bound"])
def test_whoever_else_takes_part_a_contestant_looks_the_same(name):
    assert look(name, camp("table", name)) == look(name, camp(*KINDS)) is not None


def test_a_static_contestant_is_one_of_the_crowd_unless_all_are_held_against_it():
    assert look("gits", camp(*KINDS)) is None
    assert look("gits", camp(*KINDS, baseline="gits")) == look("table", camp(*KINDS))
    assert called("gits", camp(*KINDS, baseline="gits")) == "gits (baseline)"
    assert called("bound", camp(*KINDS)) == "bound (bound)"
    assert look("table", camp(*KINDS)).width < look("bound", camp(*KINDS)).width
    assert look("bound", camp(*KINDS)).width < look("adaptive", camp(*KINDS)).width


def test_no_two_contestants_of_the_arena_look_the_same():
    """A bound has the colour of the choice that it bounds, and its line is another."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        named = compose("evaluate", ["suite=arena", "run=none"]).suite.contestants
    assert {*NAMED} <= {*named}
    looks = [NAMED[name] for name in NAMED if not name.startswith("oracle")]
    assert len(set(looks)) == len(looks) == len({colour for colour, _ in looks})
    assert NAMED["oracle_steps"] == NAMED["allocator"]
    assert NAMED["oracle_shape"] == NAMED["one_shot"]
    assert not {colour for colour, _ in OTHERS} & {colour for colour, _ in looks}
    assert look("adaptive", camp("table", "adaptive"))[:2] == NAMED["adaptive"]


def test_time_is_in_calls_and_who_takes_none_is_left_out():
    rows = [
        replace(stands("table", 4, (1, 1, 1), "static"), calls=4.5, call_s=0.002),
        replace(stands("table", 2, (1, 1, 1), "static"), calls=2.25, call_s=0.002),
        replace(stands("bound", 4, (1, 1, 1), "bound"), call_s=0.002),
    ]
    assert [curve.name for curve in curves(rows, "nfe", camp(*KINDS))] == [
        "table (baseline)",
        "bound (bound)",
    ]
    (curve,) = curves(rows, "calls", camp(*KINDS))
    assert curve.x == [2.25, 4.5]
    assert in_calls(rows).endswith("(of which the quickest took 2 ms)")
