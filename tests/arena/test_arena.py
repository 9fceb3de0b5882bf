"""The whole of it, on Gaussians."""

import csv
import html
import json
import math
import os
import re
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.arena.parts import CONTESTANTS, arena
from tests.runs import ended, started
from tpdm.arena import camp as camps
from tpdm.arena import ring as rings
from tpdm.arena.controlled import Controlled
from tpdm.sampler import grid


def table(one):
    with open(one.folder / "arena.csv") as file:
        return list(csv.DictReader(file))


def numbers(one):
    """All but what a clock told."""
    clock = ("finding_s", "seconds_per_image", "time_in_calls")
    return [{key: value for key, value in row.items() if key not in clock} for row in table(one)]


def row(one, contestant, target, seed="all"):
    key = {"contestant": contestant, "target": str(target), "seed": seed}
    return next(row for row in table(one) if key.items() <= row.items())


def test_everybody_is_there_at_every_budget_for_every_seed(played):
    one, told = played
    names = {*CONTESTANTS, "uniform", "shifted", "heun"}
    expected = {(n, str(t), s) for n in names for t in (2, 3, 4) for s in ("all", "0", "1")}
    assert {(r["contestant"], r["target"], r["seed"]) for r in table(one)} == expected
    for name in ("report.html", "pareto_nfe.png", "pareto_seconds.png", "schedules.json"):
        assert (one.folder / name).stat().st_size > 0
    page = (one.folder / "report.html").read_text()
    assert "".join(f"<p>{html.escape(text)}</p>" for text in told) in page
    measured, *_, convex, agree = told
    assert measured.startswith(
        "Errors are mean squared distances to the end of the exact ODE, on 96 held-out noises"
    )
    assert "of table falls convexly from 1 to 4 steps." in convex or "of table is not convex at" in convex
    assert agree.startswith("Of several starts of the search of table, the two best end within 1 % in cost")


def test_the_page_tells_what_was_found_in_words_and_what_made_it(played):
    """What is the same for both seeds is told once, and nothing with the braces of a dict."""
    one, _ = played
    found = json.loads((one.folder / "schedules.json").read_text())
    page = re.sub(
        r'src="[^"]*"|<script>.*</script>|<style>.*</style>',
        "",
        (one.folder / "report.html").read_text(),
        flags=re.S,
    )
    assert "{" not in page
    cells = re.findall(r"<tr>(.*?)</tr>", page.split("What was found")[1])
    rows = [[html.unescape(text) for text in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in cells[1:]]
    (uniform,) = [row for row in rows if row[:2] == ["uniform", "3"]]
    assert uniform[2:] == ["all", "levels 1, 0.6667, 0.3333, 0"]
    for seed in ("0", "1"):
        price = f"price {found['oracle_steps']['4'][seed]['price']:.4g}"
        (oracle,) = [row for row in rows if row[:2] == ["oracle_steps", "4"] and row[2] in (seed, "all")]
        assert oracle[3] == price
    assert not [row for row in rows if row[0] == "shuffled"]


def test_static_contestants_have_exactly_the_calls_of_the_budget(played):
    one, _ = played
    for name in ("table", "uniform", "shifted", "heun"):
        for target in (2, 3, 4):
            assert float(row(one, name, target)["nfe"]) == pytest.approx(target)


def test_the_baseline_is_worth_exactly_itself_at_whole_numbers(played):
    for target in (2, 3, 4):
        found = row(played[0], "table", target)
        assert [float(found[k]) for k in ("vs_static", "vs_static_low", "vs_static_high")] == [1, 1, 1]


def test_between_whole_numbers_the_baseline_is_the_two_around(ring):
    assert [around.nfe[0] for around in ring.static_around(2.25)] == [2, 3]
    assert ring.static_around(3.0)[0] is ring.static(3)


def test_no_two_sets_have_a_noise_in_common(played):
    sets = played[0].camp.sets
    parts = [sets.search, sets.learning, sets.matching, *(sets.evaluation(seed)[0] for seed in (0, 1))]
    seeds = [seed for part in parts for seed in part.seeds]
    assert len(seeds) == len(set(seeds)) == 8 + 64 + 32 + 2 * 48
    assert not torch.equal(parts[3].cond, parts[4].cond)


def test_what_finding_took_holds_that_of_all_that_it_leans_on(ring):
    found = {name: ring.finding_s(name, 3) for name in CONTESTANTS}
    assert found["table"] > 0
    assert found["allocator"] > found["table"]
    assert found["own_steps"] == pytest.approx(found["adaptive"] + found["table"])
    assert found["mean_schedule"] > found["shuffled"] == found["adaptive"] > 0


def test_what_was_found_serves_every_seed(played):
    """Only results of the evaluation sets are there for each."""
    labels = [path.name.rsplit("-", 1)[0] for path in played[0].camp.store.folder.iterdir()]
    assert labels.count("table") == labels.count("allocator") == labels.count("controlled_knob_3") == 1
    assert {f"allocator_3_seed{seed}" for seed in (0, 1)} <= set(labels)


def test_what_was_found_serves_larger_evaluation_sets(played):
    one, _ = played
    larger = arena(one.folder.parent, evaluation=64)
    files = set(one.camp.store.folder.iterdir())
    assert larger.camp.contestants["table"].find(larger.camp, 3)[0].tolist()
    assert larger.camp.static_times(3).tolist() == one.camp.static_times(3).tolist()
    assert set(one.camp.store.folder.iterdir()) == files
    assert len(larger.ring(0).played("table", 2).error) == 64


def test_started_again_it_repeats_nothing(played, monkeypatch):
    one, told = played
    files = sorted(one.camp.store.folder.iterdir())

    def never(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(rings, "measure", never)
    again = arena(one.folder.parent)
    assert again() == told
    assert sorted(one.camp.store.folder.iterdir()) == files


def test_one_contestant_fewer_or_more_repeats_nothing_of_the_others(played, monkeypatch):
    one, _ = played

    def never(*_):
        raise AssertionError("played again")

    monkeypatch.setattr(rings.Ring, "_play", never)
    fewer = {name: make for name, make in CONTESTANTS.items() if name != "controlled"}
    more = {**fewer, "other": partial(Controlled, first=0.1, max_steps=12, t_min=0.01)}
    again = arena(one.folder.parent, contestants=more)
    for name in fewer:
        assert torch.equal(again.ring(0).played(name, 3).error, one.ring(0).played(name, 3).error)
    with pytest.raises(AssertionError, match="played again"):
        again.ring(0).played("other", 3)


def test_killed_on_its_way_it_goes_on_where_it_was(played, tmp_path):
    """SIGKILL, while two processes work: what was there is not made again, and the numbers are those that one
    process finds in one go."""
    one, _ = played
    kept = tmp_path / "arena" / "kept"
    child = started(lambda: arena(tmp_path, processes=2)())
    while not kept.exists() or len(list(kept.glob("*_seed*"))) < 12:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    there = {path: path.stat().st_mtime_ns for path in kept.glob("[!.]*")}
    assert len(there) < len(list(one.camp.store.folder.iterdir()))
    again = arena(tmp_path, processes=2)
    again()
    assert numbers(again) == numbers(one)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert not list(kept.glob(".*"))


def test_other_choices_have_other_results(played, tmp_path):
    one, _ = played
    longer = arena(tmp_path, grids={"uniform": grid.cosine})
    keys = [made.camp.key("uniform") for made in (one, longer)]
    assert keys[0] != keys[1]
    other = arena(tmp_path, reference_steps=7)
    assert other.camp.store.deciding != one.camp.store.deciding


def test_budgets_are_met_without_a_look_at_errors_of_evaluation(played, tmp_path):
    """What is found is the same where the ends of the evaluation set are not known at all."""
    one, _ = played
    blind = arena(tmp_path)
    ring, seeing = blind.ring(0), one.ring(0)
    ring.evaluation = replace(ring.evaluation, target=torch.full_like(ring.evaluation.target, math.nan))
    for name, contestant in ring.camp.contestants.items():
        if contestant.kind != "bound":
            for target in (2, 4):
                assert contestant.enter(ring, target).found == contestant.enter(seeing, target).found, name


def test_whoever_prepares_never_asks_about_a_noise_that_judges(tmp_path, monkeypatch):
    one = arena(tmp_path, seeds=[0])
    ring, call = one.ring(0), type(one.meter).__call__
    judging = {tuple(noise.flatten().tolist()) for noise in ring.evaluation.noise}
    asked = set()

    def seen(self, x, *rest):
        asked.update(tuple(noise.flatten().tolist()) for noise in x)
        return call(self, x, *rest)

    monkeypatch.setattr(type(one.meter), "__call__", seen)
    for name in ("table", "adaptive", "allocator", "one_shot", "controlled"):
        one.camp.contestants[name].enter(ring, 3)
    one.camp.contestants["mean_schedule"].find(ring, 3)
    assert tuple(one.camp.sets.matching.noise[0].flatten().tolist()) in asked
    assert not asked & judging


def test_levels_that_were_found_are_grids_that_a_sampler_takes(played, tmp_path):
    one, _ = played
    found = json.loads((one.folder / "schedules.json").read_text())
    for name in ("table", "mean_schedule", "shifted"):
        for levels in found[name]["3"]["0"]["levels"]:
            path = tmp_path / "grid.json"
            path.write_text(json.dumps(levels))
            taken = grid.learned(len(levels) - 1, path=path)
            assert taken.tolist() == levels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "tabel"}, r"suite\.baseline=tabel is no schedule; accepted: table, uniform, shifted"),
        ({"baseline": "heun"}, r"suite\.baseline=heun is no schedule; accepted: table, uniform, shifted"),
        ({"seeds": [0, 1, 0]}, r"suite\.seeds holds 0 twice; accepted: every number once"),
        ({"targets": []}, r"suite\.targets=\[\] is empty; accepted: one number or more"),
        ({"seeds": [0, 1021]}, r"suite\.seeds holds 1021; accepted: 0 to 1020"),
        ({"search": 2**20 + 1}, r"suite\.search=1048577 is too many; a set has at most 1048576 noises"),
        ({"grids": {"adaptive": grid.uniform}}, "two contestants are called adaptive"),
        ({"grids": {"schedules": grid.uniform}}, "a contestant is called schedules, as is what the arena"),
        ({"grids": {"kept": grid.uniform}}, "a contestant is called kept, as is what the arena leaves"),
        ({"grids": {"../up": grid.uniform}}, r"a contestant is called '\.\./up', and files are named so"),
        (
            {"grids": {"two words": grid.uniform}},
            "a contestant is called 'two words', and files are named so",
        ),
        ({"targets": [2, 30]}, r"suite\.baseline=table; accepted: up to 8, since its table ends"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        arena(tmp_path, **changes)()


def test_whoever_leans_on_another_is_played_again_where_that_one_changes(played):
    camp = played[0].camp
    changed = {**camp.contestants, "adaptive": replace(camp.contestants["adaptive"], predictor="baseline")}
    other = camps.Camp(camp.runner, camp.sets, changed, camp.baseline, camp.store)
    for name in ("adaptive", "mean_schedule", "shuffled", "own_steps"):
        assert camp.key(name) != other.key(name)
    for name in ("table", "allocator"):
        assert camp.key(name) == other.key(name)
