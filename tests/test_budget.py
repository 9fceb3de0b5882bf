"""A run whose predictor serves every budget, through the commands."""

import os
import re
import shutil
import signal

import pytest
import torch

from tests.runs import TINY, at, command, files, forked, last_checkpoint, refused, same, trained
from tpdm import evaluate, measuring, sample
from tpdm.drawing import asked_budget
from tpdm.finished import FinishedRun
from tpdm.predictor.budget import build_predictor, kept_budget
from tpdm.runtime.artifact import load_artifact, read_artifact_config
from tpdm.runtime.atomic import read_json
from tpdm.types import CostRange, FeatureSpec

CPU = torch.device("cpu")
DRAWN = ("reward/cost=drawn", "reward.cost.low=1e-5", "reward.cost.high=1", "calibration_samples=16")


@pytest.fixture(scope="module")
def cfg(composed, finished):
    alone = ("predictor.init_logits=[0.5,0.5]", f"denoiser={finished / 'denoiser'}")
    return composed(*TINY, *DRAWN, *alone, "run_name=a")


@pytest.fixture(scope="module")
def run(cfg, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    trained({**cfg, "runs": str(runs)})
    (runs / "a" / "summary.json").write_text('{"commit": null}')
    return runs / "a"


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def budget(run, name="predictor"):
    found = kept_budget(read_artifact_config(run / name))
    assert found is not None
    return found


def drawn(run, *argv):
    ended = command(sample.main, f"run={run}", f"out={run.parent / 'x.png'}", "seeds=0-15", "grid=4x4", *argv)
    assert ended.status == 0, ended.err
    return float(re.search(r"mean NFE ([\d.]+)", ended.out)[1])


def test_every_predictor_of_the_run_is_calibrated(run):
    for name in ("predictor", "time_only"):
        assert budget(run, name).costs.low == 1e-5
        assert len(budget(run, name).nfe) > 2


def test_calls_are_asked_for_by_their_mean(run):
    """On the conditions of its calibration the predictor takes what it was asked for."""
    most, least = budget(run).nfe[0], budget(run).nfe[-1]
    assert most > least + 1
    means = [drawn(run, f"nfe={n:.4f}") for n in (least + 1e-3, (least + most) / 2, most - 1e-3)]
    assert means == sorted(means)
    assert means[0] == pytest.approx(least, abs=0.7)
    assert means[2] == pytest.approx(most, abs=0.7)
    assert drawn(run, "cost=1") <= drawn(run) <= drawn(run, "cost=1e-5")


def test_a_cap_holds_for_every_image(run, finished):
    for where in (run, finished):
        assert drawn(where, "max_nfe=2") <= 2
    opened = FinishedRun.open(str(run), CPU, ema=True)
    sampler = opened.sampler(opened.cfg["sampler"], None, cost=1e-5, max_nfe=3)
    data = opened.data().batch(16, torch.Generator())[1]
    _, nfe = opened.sample(sampler, range(16), data, 1.0, opened.cfg["guidance"], 16)
    assert nfe.max() == 3


def test_the_table_stands_at_the_budget_that_is_asked_for(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    nfe = {}
    for asked in ({"cost": 1e-5}, {"cost": 1.0}, {"cost": 1e-5, "max_nfe": 3}):
        ended = command(evaluate.main, f"run={copy}", *(f"{key}={value}" for key, value in asked.items()))
        assert ended.status == 0, ended.err
        summary = read_json(copy / "summary.json")
        assert summary["budget"] == asked
        nfe[tuple(asked.values())] = summary["tables"]["all scenes"][0]["nfe"]
    assert nfe[1e-5,] == pytest.approx(budget(run).nfe[0], abs=1)
    assert nfe[1.0,] == pytest.approx(budget(run).nfe[-1], abs=1)
    assert nfe[1e-5, 3] <= 3 < nfe[1e-5,]
    assert command(evaluate.main, f"run={copy}").status == 0
    assert "budget" not in read_json(copy / "summary.json")
    refused(command(evaluate.main, f"run={copy}", "nfe=9", "max_nfe=8"), "accepted: up to 8")


def test_it_is_timed_in_the_middle_of_its_costs(run):
    assert measuring.finished(str(run), CPU)["predictor"].cost == budget(run).costs.middle


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["nfe=40"], "nfe=40 is no mean that the predictor was calibrated for; accepted: "),
        (["nfe=0"], "nfe=0 (int) is not accepted; accepted: float > 0 or null"),
        (["cost=2"], "cost=2 is no cost that the predictor was trained at; accepted: 1e-05 to 1"),
        (["nfe=3", "cost=0.1"], "nfe=3 and cost=0.1 are given; give one of them"),
        (
            ["cost=1.0000001"],
            "cost=1.0000001 is no cost that the predictor was trained at; accepted: 1e-05 to 1",
        ),
        (["nfe=9", "max_nfe=8"], "nfe=9 is no mean of at most max_nfe=8 calls; accepted: up to 8"),
        (
            ["sampler=allocated", "sampler.path=x", "nfe=9", "max_nfe=8"],
            "nfe=9 is no mean of at most max_nfe=8 calls; accepted: up to 8",
        ),
        (["max_nfe=0"], "max_nfe=0 (int) is not accepted; accepted: int > 0 or null"),
        (["sampler=euler", "nfe=3"], "nfe=3 is a budget, and sampler=euler takes none"),
        (
            ["sampler=euler", "max_nfe=3"],
            "max_nfe=3 is a budget, and sampler=euler takes none",
        ),
    ],
)
def test_what_cannot_be_asked_leaves_no_picture(argv, line, run, tmp_path):
    before = files(run)
    ended = command(sample.main, f"run={run}", f"out={tmp_path / 'a.png'}", *argv)
    assert ended.status == 2
    assert ended.err.startswith(f"tpdm: error: {line}")
    assert ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert files(run) == before


def test_any_sampler_that_can_be_capped_is_handed_the_budget(run, capped):
    asked = asked_budget({"nfe": 3.0, "cost": None, "max_nfe": 4}, capped["name"])
    opened = FinishedRun.open(str(run), CPU, True)
    assert opened.sampler(capped, None, **asked).budget == (3.0, None, 4)
    with pytest.raises(ValueError, match="max_nfe=4 is a budget, and sampler=static takes"):
        asked_budget({"nfe": None, "cost": None, "max_nfe": 4}, "static")


def test_a_run_without_a_budget_says_so(finished):
    ended = command(sample.main, f"run={finished}", "nfe=3")
    assert ended.status == 2
    assert "nfe=3 asks for a budget, and this predictor was trained at one cost of a step" in ended.err


def test_a_killed_run_with_drawn_costs_goes_on_bit_for_bit(run, cfg, tmp_path):
    def killed():
        with at("predictor", 2, kill):
            trained({**cfg, "runs": str(tmp_path)})

    assert forked(killed) < 0
    trained({**cfg, "runs": str(tmp_path)})
    for name in ("predictor", "time_only"):
        assert same(last_checkpoint(tmp_path / "a", name), last_checkpoint(run, name))
        assert same(load_artifact(tmp_path / "a" / name), load_artifact(run / name))


def test_a_published_predictor_is_told_no_cost():
    spec = FeatureSpec(4, 4, None, (2, 2))
    cfg = {"name": "official", "path": "nowhere", "token_order": "folded"}
    with pytest.raises(ValueError, match=r"predictor=official is told no cost of a step"):
        build_predictor(cfg, spec, CostRange(1e-3, 1))
