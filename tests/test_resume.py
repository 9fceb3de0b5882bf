"""A run that was stopped, killed or broken off goes on as if nothing had happened, bit for bit."""

import json
import math
import os
import signal
import socket
from unittest.mock import patch

import pytest
import torch

from tests.runs import SAVE_EVERY, STEPS, TINY, at, command, files, forked, last_checkpoint, same, trained
from tpdm import sample, train
from tpdm.runtime.artifact import load_artifact
from tpdm.runtime.atomic import write_json
from tpdm.runtime.run import Run
from tpdm.trainer.denoiser import DenoiserTrainer
from tpdm.trainer.predictor import PredictorTrainer

FOLDERS = ("denoiser", "denoiser_raw", "predictor", "time_only")


@pytest.fixture(scope="module")
def cfg(composed):
    """The config of the `finished` fixture."""
    return composed(*TINY, "run_name=a")


@pytest.fixture
def go(cfg, tmp_path):
    """Starts the run of the `finished` fixture elsewhere, or goes on with it; without its evaluation."""
    return lambda: trained({**cfg, "runs": str(tmp_path)})


@pytest.fixture
def start(tmp_path):
    """The same by its command line, as something is to go wrong."""
    return lambda: command(train.main, *TINY, f"runs={tmp_path}", "run_name=a")


def assert_same_run(run, unbroken):
    """Everything that training leaves: weights, averages, optimisers, and every logged number."""
    assert (run / "metrics.jsonl").read_text() == (unbroken / "metrics.jsonl").read_text()
    for stage in STEPS:
        assert same(last_checkpoint(run, stage), last_checkpoint(unbroken, stage))
    for folder in FOLDERS:
        assert same(load_artifact(run / folder), load_artifact(unbroken / folder))
    assert (run / "training.gif").read_bytes() == (unbroken / "training.gif").read_bytes()


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("stage", "step"), [("denoiser", 3), ("predictor", 2), ("time_only", 1)])
def test_a_killed_run_goes_on_bit_for_bit(stage, step, go, finished, tmp_path):
    def killed():
        with at(stage, step, kill):
            go()

    assert forked(killed) == -signal.SIGKILL
    assert not (tmp_path / "a" / stage).exists()
    go()
    assert_same_run(tmp_path / "a", finished)


def test_n_steps_a_kill_n_steps_a_kill_and_n_steps_are_3n(go, finished, tmp_path):
    for step in (SAVE_EVERY, 2 * SAVE_EVERY):

        def killed(step=step):
            with at("denoiser", step, kill):
                go()

        assert forked(killed) == -signal.SIGKILL
        assert last_checkpoint(tmp_path / "a", "denoiser")["step"] == step
    go()
    assert_same_run(tmp_path / "a", finished)
    write_json(tmp_path / "a" / "summary.json", {})
    for run, out in ((tmp_path / "a", tmp_path / "1.png"), (finished, tmp_path / "2.png")):
        assert command(sample.main, f"run={run}", f"out={out}", "seeds=0-3").status == 0
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_saved_and_says_how_to_go_on(number, go, start, finished, tmp_path):
    with at("denoiser", 2, lambda: os.kill(os.getpid(), number)):
        ended = start()
    assert ended.status == 130
    last = ended.err.splitlines()[-1]
    assert (
        last == "tpdm: denoiser stopped after step 3 of 6; the same command with run_name=a goes on from here"
    )
    assert last_checkpoint(tmp_path / "a", "denoiser")["step"] == 3
    go()
    assert_same_run(tmp_path / "a", finished)


def test_the_predictor_stops_and_goes_on_too(go, start, finished, tmp_path):
    with at("predictor", 0, lambda: os.kill(os.getpid(), signal.SIGINT)):
        ended = start()
    assert ended.status == 130
    assert "tpdm: predictor stopped after step 1 of 4; the same command with run_name=a " in ended.err
    go()
    assert_same_run(tmp_path / "a", finished)


def test_an_impatient_second_interrupt_ends_at_once(go, start, finished, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with at("denoiser", 3, twice):
        ended = start()
    assert ended.status == 130
    assert "tpdm: stopped; the same command with run_name=a goes on from here" in ended.err
    assert last_checkpoint(tmp_path / "a", "denoiser")["step"] == 2
    go()
    assert_same_run(tmp_path / "a", finished)


def test_time_spent_before_a_stop_is_counted(go, tmp_path):
    def timings():
        return json.loads((tmp_path / "a" / "timings.json").read_text())

    with at("denoiser", 2, lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        go()
    before = timings()["denoiser"]
    go()
    assert timings()["denoiser"] > before > 0


def test_a_second_process_in_the_folder_is_refused(go, copy):
    before = files(copy)
    with Run(copy).lock():
        ended = command(train.main, *TINY, f"runs={copy.parent}", "run_name=copy")
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    assert ended == (2, "", f"tpdm: error: {copy} is in use by {holder}; wait, or stop it first\n")
    assert {**files(copy), ".lock": 0} == {**before, ".lock": 0}


@pytest.mark.parametrize("change", ["trainer.max_steps=8", "seed=1", "model.depth=2", "predictor.width=8"])
def test_another_config_cannot_go_on_with_the_run(change, copy):
    before = files(copy)
    ended = command(train.main, *TINY, f"runs={copy.parent}", "run_name=copy", change)
    assert (ended.status, ended.out) == (2, "")
    assert f" and cannot go on with {change}; " in ended.err
    assert ended.err.count("\n") == 1
    assert {**files(copy), ".lock": 0} == {**before, ".lock": 0}


def no_number(self, x0, cond, generator):
    return math.nan * sum(p.sum() for p in self.backbone.parameters())


def no_slope(self, x0, cond, generator):
    """A loss of 0 whose gradient is no number."""
    return sum((p - p).sum() for p in self.backbone.parameters()).abs().sqrt()


@pytest.mark.parametrize(("broken", "what"), [(no_number, "loss"), (no_slope, "gradient norm")])
def test_a_loss_that_is_no_number_stops_the_denoiser(broken, what, go, start, finished, tmp_path):
    whole = DenoiserTrainer.loss

    def loss(self, *batch):
        place = self.batches.place  # after the batch of step 3
        return broken(self, *batch) if place.position == 4 * place.size else whole(self, *batch)

    with patch.object(DenoiserTrainer, "loss", loss):
        ended = start()
    assert_stopped(ended, "denoiser", f"{what} is nan", tmp_path / "a")
    go()
    assert_same_run(tmp_path / "a", finished)


def test_a_reward_that_is_no_number_stops_the_predictor(go, start, finished, tmp_path):
    explore = PredictorTrainer.explore

    def lost(self, generator):
        rollout, judged = explore(self, generator)
        lost = judged._replace(reward=judged.reward * math.nan)
        return rollout, lost if self.lr.last_epoch == 3 else judged

    with patch.object(PredictorTrainer, "explore", lost):
        ended = start()
    fault = "reward is nan for an image in 2 of 2 groups, more than predictor_trainer.max_left_out=0.5"
    assert_stopped(ended, "predictor", fault, tmp_path / "a")
    go()
    assert_same_run(tmp_path / "a", finished)


def assert_stopped(ended, stage, what, run):
    assert ended.status == 1
    assert ended.err.splitlines()[-1] == (
        f"tpdm: error: FloatingPointError: the {stage}'s {what} at step 3, rank 0, seed 0; "
        f"its last checkpoint is kept in {run / 'checkpoints'}"
    )
    kept = last_checkpoint(run, stage)
    assert kept["step"] == 2
    weights = kept["backbone" if stage == "denoiser" else "predictor"]
    assert all(torch.isfinite(weight).all() for weight in weights.values())
