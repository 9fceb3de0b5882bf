"""The arena as its command line opens it, on a finished run."""

import csv
import json
import shutil

from tests.runs import command, refused
from tpdm import benchmark, evaluate, sample
from tpdm.sampler.grid_file import read_grid, read_table

SMALL = (
    "suite=arena", "suite.targets=[3]", "suite.seeds=[4]", "suite.search=4", "suite.learning=16",
    "suite.matching=8", "suite.evaluation=16", "suite.reference_steps=2", "suite.timed_batch=4",
    "suite.timed_repeats=1",
    "suite.contestants.table.largest=4", "suite.contestants.table.iterations=1",
    "suite.contestants.oracle_steps.most=4", "suite.contestants.one_shot.updates=2",
)  # fmt: skip


def test_a_finished_run_meets_everybody(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    ended = command(evaluate.main, f"run={copy}", *SMALL)
    assert ended.status == 0, ended.err
    assert "held against, at the same mean NFE, is table" in " ".join(ended.out.split())
    assert ended.out.count("\n\nadaptive ") == 1  # a paragraph of its own
    *told, where = ended.out.splitlines()
    assert 80 < max(map(len, told)) <= 100
    assert where == f"All of it, with plots: {copy}/arena/report.html"
    with open(copy / "arena" / "arena.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["seed"] == "all"]
    names = {row["contestant"] for row in rows}
    assert {
        "uniform",
        "shifted_twice",
        "deis",
        "gits",
        "adaptive",
        "time_only",
        "own_steps",
        "one_shot",
        "one_shot_mean",
        "table",
    } <= names
    assert all(row["frechet"] and row["accuracy"] for row in rows)
    assert all(row["seconds_per_image"] for row in rows if row["kind"] != "bound")
    assert command(evaluate.main, f"run={copy}", *SMALL).out == ended.out


def test_what_it_found_is_drawn_with(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    few = ("suite.contestants.allocator.most=4", "suite.contestants.oracle_steps.most=4")
    assert command(evaluate.main, f"run={copy}", *SMALL, *few).status == 0
    drawn = (f"run={copy}", "seeds=0-7", "grid=2x4", f"out={tmp_path}/a.png")
    by_table = ("sampler=static", "steps=3", f"sampler.grid={copy}/arena/table.json")
    ended = command(sample.main, *drawn, *by_table)
    assert "8 images, mean NFE 3.00" in ended.out, ended.err
    played = json.loads((copy / "arena" / "schedules.json").read_text())
    for name in ("gits", "sharpness"):
        grid = copy / "arena" / f"{name}.json"
        assert list(read_table(grid)) == [3]
        assert [read_grid(grid, 3).tolist()] == played[name]["3"]["4"]["levels"]
    by_euler = ("sampler=euler", "steps=3", f"sampler.grid={copy}/arena/sharpness.json")
    assert "mean NFE 3.00" in command(sample.main, *drawn, *by_euler).out
    for name in ("mean_schedule", "one_shot_mean"):
        assert list(read_table(copy / "arena" / f"{name}.json")) == [3]
    assert not (copy / "arena" / "uniform.json").exists()
    allocated = (*drawn, "sampler=allocated", f"sampler.path={copy}/arena/allocator")
    assert "mean NFE 2.00" in command(sample.main, *allocated, "nfe=2", "max_nfe=2").out
    assert "accepted: 1 to 4" in command(sample.main, *allocated, "nfe=9").err
    assert "neither of them is given" in command(sample.main, *allocated).err
    for other in ("guidance_scale=2", "ema=false"):
        refused(command(sample.main, *allocated, "nfe=2", other), "allocator was learned with")
    assert command(sample.main, *allocated, "nfe=2", "guidance=power_cosine").status == 0  # it is off


def test_a_suite_is_refused_where_it_does_not_belong(copy):
    ended = command(evaluate.main, f"run={copy}", "suite=rollout")
    assert ended.status == 2
    assert "suite=rollout is a benchmark: python -m tpdm.benchmark suite=rollout" in ended.err
    ended = command(benchmark.main, "suite=arena")
    assert ended.status == 2
    assert "suite=arena is no benchmark: python -m tpdm.evaluate run=FOLDER suite=arena" in ended.err
