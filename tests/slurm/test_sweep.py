"""Sweeps on a real SLURM: preempted, out of time, failing, repeated. `make test-slurm` starts one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.runs import LOOPS, MODEL, PREDICTOR, last_checkpoint, same
from tpdm.launcher.sweep import Sweep
from tpdm.runtime.artifact import load_artifact
from tpdm.runtime.atomic import read_json

if "TPDM_TEST_SLURM" not in os.environ:
    pytest.skip("needs SLURM; make test-slurm starts one", allow_module_level=True)

HERE = Path(__file__).parent
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE / "plugin")}
JUDGED = tuple(setting for setting in LOOPS if setting.startswith("evaluation."))
SMALL = (
    *MODEL,
    *(setting for setting in LOOPS if setting not in JUDGED),
    "data=troubled",
    "device=cpu",
    "trainer.preview_every=100",
)
WHOLE = (*(setting for setting in PREDICTOR if "baseline" not in setting), "baseline=null", *JUDGED)
SENT = ("launcher.allow_dirty=true", "launcher.mem_gb=1")
SLURM = ("launcher=slurm", *SENT)
DDP = (
    "launcher=slurm_ddp",
    *SENT,
    "launcher.nodes=1",
    "launcher.tasks_per_node=2",
    "launcher.cpus_per_task=1",
    "launcher.gpus_per_node=null",
)
ALONE = ("predictor=none", "evaluation=none")  # a denoiser and nothing else
LONG = (*ALONE, "trainer.max_steps=24", "trainer.save_every=100")
WAIT_S = 200


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """A folder of configs that may be edited."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "data").mkdir()
    (folder / "data" / "troubled.yaml").write_text((HERE / "conf" / "data" / "troubled.yaml").read_text())
    return folder


@pytest.fixture
def train(conf, tmp_path):
    """train(*settings) starts a command whose runs are in `tmp_path`."""
    return partial(started, conf, tmp_path)


def started(conf, runs, *settings, before=(sys.executable, "-m")):
    return subprocess.Popen(
        [*before, "tpdm.train", "-cd", str(conf), *SMALL, f"runs={runs}", *settings],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )


def reported(sweep):
    command = [sys.executable, "-m", "tpdm.report", str(sweep)]
    return subprocess.run(command, env=ENV, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def limited(conf, tmp_path_factory):
    """A sweep of one job that has two minutes and needs more; they pass while another test runs.

    SLURM may say that time is over a minute early: of one minute, nothing might be left after the start.
    The command that waits for it is interrupted, which is none of the job's business.
    """
    runs = tmp_path_factory.mktemp("limited")
    limits = ("launcher.timeout_min=2", "launcher.signal_delay_s=20", "launcher.cpus_per_task=1")
    start = started(conf, runs, *SLURM, *limits, "run_name=s", *LONG, "data.seconds=4.5")
    job = next(line for line in start.stdout if line.startswith("job ")).split()[1].rstrip(":")
    until(lambda: squeue("%T", "-j", job) == ["RUNNING"], "its start")
    start.send_signal(signal.SIGINT)
    status, _, err = ended(start)
    assert status == 130
    assert "1 jobs go on, nothing was cancelled" in err
    assert f"to cancel: scancel {job}" in err
    said = reported(runs / "s")  # SLURM may be a minute early, and have queued it again by now
    assert re.search("0 done, (1 running, 0 queued|0 running, 1 queued), 0 failed", said), said
    return Sweep(runs / "s")


def ended(process):
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def until(true, what):
    for _ in range(10 * WAIT_S):
        if found := true():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen in {WAIT_S} s")


def squeue(form, *options):
    done = subprocess.run(["squeue", "-h", "-a", "-r", "-o", form, *options], capture_output=True, text=True)
    return done.stdout.split()


def control(job, field):
    done = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True)
    return re.search(rf"\b{field}=(\S+)", done.stdout)[1]


def assert_states(jobs, expected):
    """SLURM's own; it closes a job a moment after the last result is there."""
    until(lambda: [control(job.id, "JobState") for job in jobs.values()] == expected, str(expected))


def steps(run):
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def assert_same_run(run, other, stages=("denoiser",)):
    """Weights, averages, optimisers, every logged number, and the samples drawn in the end."""
    assert (run / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    for stage in stages:
        assert same(load_artifact(run / stage)[1], load_artifact(other / stage)[1])
    assert same(load_artifact(run / "denoiser_raw")[1], load_artifact(other / "denoiser_raw")[1])
    if "predictor" in stages:
        assert same(last_checkpoint(run, "predictor"), last_checkpoint(other, "predictor"))
        assert (run / "samples.png").read_bytes() == (other / "samples.png").read_bytes()
        assert measured(run) == measured(other)


def measured(run):
    """Every number of the tables but for speeds."""
    tables = read_json(run / "summary.json")["tables"]
    return {
        (name, row["name"], key): row[key]
        for name in tables
        for row in tables[name]
        for key in row
        if key != "images_per_second"
    }


def test_preempted_jobs_finish_as_if_nothing_had_happened(train, conf, tmp_path):
    """Two of four jobs run, one of a higher partition takes their place, and a config is edited meanwhile.

    All four are compared with the same sweep that this machine runs without SLURM at the same time.
    """
    alike = (*WHOLE, "trainer.max_steps=24", "trainer.save_every=100")
    slurm = (*SLURM, "launcher.cpus_per_task=2", "run_name=s", *alike, "data.seconds=0.5")
    grid = ("seed=0,1", "model/block=adaln,adaln_zero")
    sweep = (*slurm, *grid)
    start = train(*sweep)
    unedited = ("hydra.mode=MULTIRUN", "data.trouble=none")  # whatever the file says by then
    local = train("run_name=local", *alike, *grid, *unedited)
    denoisers = tmp_path / "s" / "denoisers"
    until(lambda: sum(steps(run) >= 3 for run in denoisers.glob("*")) == 2, "two jobs at work")
    edited = conf / "data" / "troubled.yaml"
    original = edited.read_text()
    edited.write_text(original.replace("trouble: none", "trouble: raise"))
    subprocess.run(["srun", "-p", "high", "-c4", "--mem=1G", "true"], check=True, capture_output=True)
    status, out, err = ended(start)
    edited.write_text(original)
    assert status == 0, out + err
    jobs = Sweep(tmp_path / "s").sent().values()
    restarts = {job.name: control(job.id, "Restarts") for job in jobs}
    assert sorted(restarts.values()) == ["0", "0", "1", "1"]
    for job in jobs:
        said = (tmp_path / "s" / "jobs" / f"{job.id}_0_log.out").read_text()
        stops = re.findall(r"denoiser stopped after step (\d+) of 24; to be queued again", said)
        assert len(stops) == int(restarts[job.name]), said
    assert len(list(denoisers.iterdir())) == 4

    again = train(*sweep)
    status, out, err = ended(local)
    assert status == 0, out + err
    for job in jobs:
        alone = tmp_path / "local" / job.name
        assert_same_run(tmp_path / "s" / job.name, alone, ("denoiser", "predictor"))
        logged = [json.loads(line) for line in (alone / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in logged if line["stage"] == "denoiser"] == list(range(24))
        [shared], [local] = (
            [run for run in folder.iterdir() if same_start(run, alone)]
            for folder in (denoisers, tmp_path / "local" / "denoisers")
        )
        assert same(last_checkpoint(shared, "denoiser"), last_checkpoint(local, "denoiser"))

    status, out, err = ended(again)
    assert (status, "4 done, 0 under way, 0 to run" in out) == (0, True), out + err
    assert "job " not in out

    assert "4 done, 0 running, 0 queued, 0 failed" in reported(tmp_path / "s")
    page = (tmp_path / "s" / "report.html").read_text()
    assert page.count("<circle") == page.count("data:image/png") == 4
    assert (tmp_path / "s" / "leaderboard.csv").read_text().count("\n") == 5


def same_start(run, other):
    return (other / "metrics.jsonl").read_text().startswith((run / "metrics.jsonl").read_text())


def test_every_failure_is_told_and_the_rest_is_kept(limited, train, tmp_path):
    """A job raises, one is killed, of one the second rank alone raises; each has a neighbour that is well."""
    settings = ("run_name=s", *ALONE, "data.trouble=none,raise,kill")
    two = ("run_name=two", *ALONE, "data.trouble=none,rank1")
    first = train(*SLURM, "launcher.cpus_per_task=1", *settings)
    second = train(*DDP, *two)
    torchrun = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_port=29611",
        "-m",
    )
    rivals = {"torchrun": torchrun, "srun": ("srun", "-n2", "-c1", "--mem=1G", sys.executable, "-m")}

    status, out, err = ended(first)
    assert status == 1, out + err
    assert "2 jobs failed: raise, kill; " in err
    assert "RuntimeError: an accident on rank 0" in err
    assert re.search(r"\(kill\), rank 0, .*\nleft no result \(FAILED\)", err), err
    jobs = Sweep(tmp_path / "s").sent()
    assert_states(jobs, ["COMPLETED", "FAILED", "FAILED"])
    assert "RuntimeError: an accident" in Sweep(tmp_path / "s").log(jobs["raise"]).read_text()
    assert (tmp_path / "s" / "none" / "summary.json").exists()

    status, out, err = ended(second)
    assert status == 1, out + err
    assert re.search(r"\(rank1\), rank 1, (.*\n)+.*RuntimeError: an accident on rank 1", err), err
    jobs = Sweep(tmp_path / "two").sent()
    assert_states(jobs, ["COMPLETED", "FAILED"])

    for name, before in rivals.items():
        status, out, err = ended(train(f"run_name={name}", *ALONE, before=before))
        assert status == 0, err
        assert out.count("run: ") == 1
        assert_same_run(tmp_path / name, tmp_path / "two" / "none")


def test_a_job_whose_time_is_over_goes_on_in_the_same_folder(limited, train, tmp_path):
    status, _, err = ended(train("run_name=local", *LONG))
    assert status == 0, err
    until(lambda: (limited.folder / "job" / "summary.json").exists(), "its end")
    [job] = limited.sent().values()
    assert int(control(job.id, "Restarts")) >= 1
    assert_same_run(limited.folder / "job", tmp_path / "local")
    assert same(
        last_checkpoint(limited.folder / "job", "denoiser"), last_checkpoint(tmp_path / "local", "denoiser")
    )
