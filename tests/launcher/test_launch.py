"""Sweeps as they are sent, to an sbatch that counts: what is refused leaves nothing behind."""

import os
import shutil
import subprocess
import time

import pytest

from tests.runs import ended, started
from tpdm.launcher import snapshot as module
from tpdm.launcher.launch import launch
from tpdm.launcher.sweep import Sweep

SBATCH = """#!/bin/sh
echo sent >> {log}
{then}
echo Submitted batch job 77
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A committed package of one file, which is what the jobs are to run."""
    package = tmp_path / "checkout" / "tpdm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one = 1\n")
    for line in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm one"):
        subprocess.run(["git", "-C", str(package.parent), *line.split()], check=True)
    monkeypatch.setattr(module, "PACKAGE", package)
    return package


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """sbatch(then) puts one on the PATH, which runs `then`; sbatch.count() is how often it was called."""
    log, folder = tmp_path / "sbatch.log", tmp_path / "bin"

    def put(then=""):
        folder.mkdir(exist_ok=True)
        (folder / "sbatch").write_text(SBATCH.format(log=log, then=then))
        (folder / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    put.count = lambda: log.read_text().count("sent") if log.exists() else 0
    return put


@pytest.fixture
def send(composed, code, tmp_path):
    """send(runs) sends two jobs."""
    given = [("predictor=vit", "seed=0"), ("predictor=vit", "seed=1")]
    settings = ("launcher=slurm", "launcher.wait=false", "run_name=s")

    def send(runs=tmp_path / "runs"):
        launch("train", [(job, composed(*settings, *job, f"runs={runs}")) for job in given])
        return Sweep(runs / "s")

    return send


def test_the_jobs_are_sent_once_with_the_code_that_stands_there(send, sbatch, code):
    sbatch()
    sweep = send()
    assert {name: job.id for name, job in sweep.sent().items()} == {"0": "77_0", "1": "77_1"}
    [snapshot] = (sweep.folder / "code").iterdir()
    assert (snapshot / "tpdm" / "__init__.py").read_text() == "one = 1\n"
    assert sbatch.count() == 1


def test_what_is_done_is_not_sent_again(send, sbatch):
    sbatch()
    sweep = send()
    for name in ("0", "1"):
        (sweep.folder / name).mkdir()
    (sweep.folder / "0" / "summary.json").write_text("{}")
    send()
    ids = {name: job.id for name, job in sweep.sent().items()}
    assert (sbatch.count(), ids) == (2, {"0": "77_0", "1": "77"})  # the second alone, and so no array
    (sweep.folder / "1" / "summary.json").write_text("{}")
    send()
    assert sbatch.count() == 2


def test_what_waits_or_runs_is_not_sent_again(send, sbatch, tmp_path):
    sbatch()
    send()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho '77_0|RUNNING'\necho '77_1|FAILED'\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    ids = {name: job.id for name, job in send().sent().items()}
    assert (sbatch.count(), ids) == (2, {"0": "77_0", "1": "77"})


def test_a_machine_without_slurm_is_left_as_it_was(send, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="launcher=slurm finds no sbatch on the PATH; accepted here: local"):
        send()
    assert not (tmp_path / "runs").exists()


def test_a_tree_that_is_refused_leaves_no_folder(send, sbatch, code, tmp_path):
    sbatch()
    (code / "__init__.py").write_text("two = 2\n")
    with pytest.raises(ValueError, match="changes that are in no commit"):
        send()
    assert (list((tmp_path / "runs").iterdir()), sbatch.count()) == ([], 0)


def test_a_sweep_that_sbatch_refuses_leaves_no_folder_but_one_that_it_knows_stays(
    send, sbatch, code, tmp_path
):
    sbatch("echo sbatch: error: invalid partition specified: nope >&2; exit 1")
    with pytest.raises(ValueError, match=r"sbatch refused: .*invalid partition specified: nope"):
        send()
    assert (list((tmp_path / "runs").iterdir()), sbatch.count()) == ([], 1)
    sbatch()
    sweep = send()
    before = sorted(path.name for path in sweep.folder.iterdir())
    sbatch("exit 1")
    with pytest.raises(ValueError, match="sbatch refused"):
        send()
    assert sorted(path.name for path in sweep.folder.iterdir()) == before
    assert list((sweep.folder / "code").iterdir())


def test_a_folder_that_cannot_be_written(send, sbatch, disk, tmp_path):
    sbatch()
    with pytest.raises(OSError, match=r"Read-only file system: '.*disk0/s'"):
        send(disk("size=1m,ro"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"'.*file/s'"):
        send(tmp_path / "file")
    assert sbatch.count() == 0


def test_a_disk_too_small_for_the_code(send, sbatch, code, disk):
    sbatch()
    (code / "large.py").write_text("#" * 2**20)
    for line in ("add .", "-c user.name=a -c user.email=a@b commit -qm two"):
        subprocess.run(["git", "-C", str(code.parent), *line.split()], check=True)
    small = disk("size=256k")
    with pytest.raises(ValueError, match=r"failed: error: unable to write file tpdm/large\.py"):
        send(small)
    assert (list(small.iterdir()), sbatch.count()) == ([], 0)


def test_a_disk_that_is_full_when_the_jobs_are_queued_tells_which_they_are(send, sbatch, disk, capsys):
    small = disk("size=1m")
    sbatch(f"cat /dev/zero > {small}/ballast")
    with pytest.raises(OSError, match=r"No space left on device: '.*s/sweep.json'"):
        send(small)
    told = capsys.readouterr()
    assert "job 77_0: 0\njob 77_1: 1\n" in told.out
    assert "the sweep does not know of them; to cancel: scancel 77_0 77_1" in told.err
    (small / "ballast").unlink()
    assert Sweep(small / "s").sent() == {}


def test_the_same_command_twice_at_once_sends_once(send, sbatch, tmp_path):
    """The second comes while the first one's sbatch has not answered yet."""
    answer, log = tmp_path / "answer", tmp_path / "sbatch.log"
    sbatch(f"until [ -e {answer} ] || [ $(grep -c sent {log}) -gt 1 ]; do sleep 0.01; done")
    first = started(send)
    try:
        assert any(sbatch.count() or time.sleep(0.01) for _ in range(6000))
        with pytest.raises(ValueError, match="is being submitted by another process; wait for it"):
            send()
    finally:
        answer.touch()
    assert ended(first) == 0
    assert sbatch.count() == 1
    assert len(Sweep(tmp_path / "runs" / "s").sent()) == 2


@pytest.mark.parametrize(
    "content", ["", '{"jobs": [{"na', "[]", '{"job": []}', '{"jobs": [{"name": "0"}]}', "\0"]
)
def test_a_damaged_list_of_jobs_is_named_and_nothing_is_sent(content, send, sbatch, tmp_path):
    sbatch()
    send()
    path = tmp_path / "runs" / "s" / "sweep.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"runs/s/sweep\.json (is no|holds no).* it was cut short or edited"):
        send()
    assert (sbatch.count(), path.read_text()) == (1, content)


def test_a_snapshot_that_was_cut_short_is_made_again(send, sbatch, tmp_path, monkeypatch):
    """The command is killed while git writes the files."""
    sbatch()
    (tmp_path / "bin" / "git").write_text(
        f'#!/bin/sh\n{shutil.which("git")} "$@" || exit\n'
        'case "$*" in *"worktree add"*) rm "$8/tpdm/__init__.py"; kill -9 $PPID;; esac\n'
    )
    (tmp_path / "bin" / "git").chmod(0o755)
    assert ended(started(send)) == -9
    assert (sbatch.count(), any((tmp_path / "runs" / "s" / "code").iterdir())) == (0, True)
    (tmp_path / "bin" / "git").unlink()
    [whole] = (path for path in (send().folder / "code").iterdir() if not path.name.startswith("."))
    assert (whole / "tpdm" / "__init__.py").read_text() == "one = 1\n"


def test_options_reach_sbatch_and_srun_under_their_own_names(composed, code, sbatch, tmp_path):
    sbatch()
    options = {"partition": "gpu", "account": "mine", "constraint": "a100", "gpus_per_node": 2, "mem_gb": 8}
    given = [
        "launcher=slurm", "launcher.wait=false", "launcher.timeout_min=90", "launcher.array_parallelism=1",
        *(f"launcher.{key}={value}" for key, value in options.items()), "launcher.srun_args=[--overlap]",
        "+launcher.additional_parameters={reservation: tuesday}", f"runs={tmp_path}", "run_name=s",
    ]  # fmt: skip
    launch("train", [((f"seed={k}",), composed(*given, f"seed={k}")) for k in (0, 1)])
    script = tmp_path / "s" / "jobs" / "77_submission.sh"
    lines = script.read_text().splitlines()
    for option in (
        "partition=gpu", "account=mine", "constraint=a100", "gpus-per-node=2", "mem=8GB", "time=90",
        "array=0-1%1", "reservation=tuesday",
    ):  # fmt: skip
        assert f"#SBATCH --{option}" in lines
    assert " --overlap " in next(line for line in lines if line.startswith("srun "))
