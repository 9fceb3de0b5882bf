"""What `python -m tpdm.train` leaves behind, from a tiny run with every default."""

import json
import os
import subprocess
import sys
from itertools import product

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs import LOOPS, MODEL, STEPS, TINY, command, files, same, trained
from tpdm import train
from tpdm.assembly import load_denoiser, load_predictor
from tpdm.runtime.artifact import load_artifact
from tpdm.runtime.provenance import commit

SMALL = (*TINY, "trainer.max_steps=2", "baseline=null")
CPU = torch.device("cpu")
ALONE = (*MODEL, *LOOPS, "predictor=none", "trainer.max_steps=1")  # a denoiser and no predictor


def table(run, name="all scenes"):
    return {row["name"]: row for row in json.loads((run / "summary.json").read_text())["tables"][name]}


def test_the_config_that_was_run_is_kept(finished, composed):
    cfg = composed(*TINY, f"runs={finished.parent}", "run_name=finished")
    assert yaml.safe_load((finished / "config.yaml").read_text()) == cfg


def test_every_step_is_in_the_metrics_once(finished):
    entries = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    expected = [(stage, step) for stage, count in STEPS.items() for step in range(count)]
    assert [(entry["stage"], entry["step"]) for entry in entries] == expected
    predictor = [entry for entry in entries if entry["stage"] == "predictor"]
    for key in ("reward", "nfe", "entropy", "importance", "clip_share", "loss", "lr"):
        assert all(isinstance(entry[key], float) for entry in predictor)


def test_the_summary_says_what_made_it_and_how_long_that_took(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert summary["commit"] == commit()
    assert summary["seconds"].keys() == {*STEPS, "classifier", "pool", "evaluation"}
    assert all(seconds > 0 for seconds in summary["seconds"].values())


def test_the_table_has_every_contestant_on_all_scenes_and_on_those_with_digits(finished):
    everywhere, with_digits = table(finished), table(finished, "scenes with digits")
    assert list(everywhere) == list(with_digits)
    assert list(everywhere)[:4] == [
        "predictor",
        "shuffled between samples",
        "own mean schedule",
        "sees only t",
    ]
    for grid, solver in product(
        ("uniform", "shifted"), ("abm", "euler (= ddim)", "heun", "dpmpp_2m", "unipc")
    ):
        assert everywhere[f"{grid} {solver}"]["nfe"] == pytest.approx(
            everywhere["predictor"]["nfe"], abs=1e-4
        )
    assert everywhere["fixed 28 steps, euler"]["nfe"] == 28
    assert everywhere["fixed 28 steps, abm"]["nfe"] == 28
    assert everywhere["reference (exact ODE)"]["mse"] == 0
    figures = {"name", "nfe", "nfe_std", "mse", "frechet", "accuracy", "images_per_second"}
    for row in everywhere.values():
        assert row.keys() == figures
        assert row["frechet"] > 0
        assert row["images_per_second"] > 0


def test_the_table_is_printed_with_the_floor_in_its_caption(tmp_path):
    out = command(train.main, *SMALL, f"runs={tmp_path}", "run_name=a").out
    assert "all scenes: MSE" in out
    assert "real against real: " in out
    assert "\nshuffled between samples  " in out
    assert "sees only t" not in out


def test_curves_grids_and_histograms_are_in_tensorboard(finished):
    tags = {stage: EventAccumulator(str(finished / "tensorboard" / stage)).Reload().Tags() for stage in STEPS}
    assert {"loss", "lr", "grad_norm"} <= set(tags["denoiser"]["scalars"])
    assert tags["denoiser"]["images"] == ["samples"]
    assert {"reward", "nfe", "entropy", "importance", "clip_share"} <= set(tags["predictor"]["scalars"])
    assert tags["predictor"]["histograms"] == ["steps"]


def test_the_networks_load_on_their_own(finished):
    assembly, denoiser = load_denoiser(finished / "denoiser", CPU, torch.float32)
    x, t, cond = (
        torch.randn(2, *assembly.shape),
        torch.tensor([0.9, 0.5]),
        torch.zeros(2, 4, dtype=torch.long),
    )
    features = denoiser(x, t, cond).features
    for name in ("predictor", "time_only"):
        predictor = load_predictor(finished / name, finished / "denoiser", denoiser.backbone.features, CPU)
        assert predictor(features, t).mode.shape == (2,)


def test_both_the_averaged_and_the_last_weights_are_kept_and_say_which_they_are(finished):
    folders = ("denoiser", "denoiser_raw")
    (_, averaged), (_, raw) = (load_artifact(finished / name) for name in folders)
    assert averaged.keys() == raw.keys()
    assert not same(averaged, raw)
    said = {name: json.loads((finished / name / "config.json").read_text())["weights"] for name in folders}
    assert said == {"denoiser": "ema", "denoiser_raw": "raw"}


def test_pictures_and_the_film_of_training_can_be_looked_at(finished):
    names = ["samples", "samples_sees_only_t", "schedules", "steps", "loss", "reward", "nfe", "entropy"]
    for name in names:
        darkest, brightest = Image.open(finished / f"{name}.png").convert("L").getextrema()
        assert darkest < brightest
    assert Image.open(finished / "training.gif").n_frames == 2  # previews after steps 3 and 6


def test_a_second_start_does_nothing_again(finished):
    before = files(finished)
    ended = command(train.main, *TINY, f"runs={finished.parent}", "run_name=finished")
    after = files(finished)
    assert (ended.status, ended.err) == (0, "")
    assert "python -m tpdm.evaluate run=" in ended.out
    for name in (".lock", "metrics.jsonl"):
        assert (name == ".lock") or before.pop(name)[1] == after.pop(name)[1]
    assert {**before, ".lock": 0} == {**after, ".lock": 0}


def test_an_unnamed_run_has_a_folder_of_its_own(composed, tmp_path):
    for count in (1, 2):
        trained(composed(*ALONE, f"runs={tmp_path}"))
        assert len(list(tmp_path.glob("*/denoiser/model.safetensors"))) == count


def test_a_fixed_sampler_is_judged_without_a_predictor(tmp_path):
    argv = ("scheduler=ddpm", "sampler=heun", "sampler.num_steps=3", f"runs={tmp_path}", "run_name=a")
    ended = command(train.main, *ALONE, *argv)
    assert ended.status == 0, ended.err
    rows = table(tmp_path / "a")
    assert next(iter(rows)) == "own sampler, heun"
    assert rows["own sampler, heun"]["nfe"] == 5  # 2N - 1
    assert {"uniform ddim", "shifted euler"} <= rows.keys()
    assert (tmp_path / "a" / "samples.png").exists()


def test_a_denoiser_of_another_run_is_adopted(finished, tmp_path):
    argv = (*TINY, f"denoiser={finished / 'denoiser'}", f"runs={tmp_path}", "run_name=a")
    assert command(train.main, *argv).status == 0
    assert same(load_artifact(tmp_path / "a" / "predictor"), load_artifact(finished / "predictor"))
    assert not (tmp_path / "a" / "checkpoints" / "denoiser_00000006.pt").exists()


def test_two_processes_make_one_run(tmp_path):
    argv = [*SMALL, "run_name=two", "device=cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "tests.runs"]
    done = subprocess.run(
        [*torchrun, *argv, f"runs={tmp_path}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [folder.name for folder in tmp_path.iterdir()] == ["two"]
    entries = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    expected = [
        (stage, step) for stage, count in (("denoiser", 2), ("predictor", 4)) for step in range(count)
    ]
    assert [(entry["stage"], entry["step"]) for entry in entries] == expected
    assert "predictor" in table(tmp_path / "two")
    assert done.stdout.count("all scenes: MSE") == 1
