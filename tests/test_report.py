"""`python -m tpdm.report` on a sweep of three jobs of which one is done, one failed and one vanished."""

import csv
import os
import pickle
import re
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs import command
from tpdm import report
from tpdm.launcher.sweep import Sent, Sweep

WELL = pickle.dumps(("success", None))  # a job's result


@pytest.fixture
def sweep(finished, tmp_path):
    jobs = [
        Sent(name, {"seed": str(k)}, f"{2**22 + k}", 1, "local") for k, name in enumerate(("a", "b", "c"))
    ]
    shutil.copytree(finished, tmp_path / "s" / "a")
    Sweep(tmp_path / "s").record(["train"], jobs)
    (tmp_path / "s" / "jobs").mkdir()
    (tmp_path / "s" / "jobs" / f"{jobs[1].id}_0_result.pkl").write_bytes(
        pickle.dumps(("error", "Traceback <x>"))
    )
    return tmp_path / "s"


def test_every_job_has_a_state_and_a_row(sweep):
    ended = command(report.main, str(sweep))
    assert ended.status == 0, ended.err
    assert [line.split()[0] for line in ended.out.splitlines()[:3]] == ["done", "failed", "failed"]
    assert "1 done, 0 running, 0 queued, 2 failed" in ended.out
    rows = list(csv.DictReader((sweep / "leaderboard.csv").open()))
    assert next((row["run"], row["seed"], row["state"]) for row in rows) == ("a", "0", "done")
    assert float(rows[0]["nfe"]) > 0
    assert rows[1]["mse"] == ""


def test_the_page_needs_no_other_file(sweep):
    assert command(report.main, f"sweep={sweep}").status == 0
    page = (sweep / "report.html").read_text()
    assert page.count("<circle") == page.count("<img") == page.count("data:image/png;base64,") == 1
    assert page.count("<tr>") == 4
    assert "http" not in page
    assert "<x>" not in page


def test_tensorboard_has_a_session_for_each_finished_run(sweep):
    for _ in range(2):  # made anew, not added to
        assert command(report.main, str(sweep)).status == 0
    [session] = [entry for entry in os.listdir(sweep / "hparams") if (sweep / "hparams" / entry).is_dir()]
    assert session == "a"
    scalars = EventAccumulator(str(sweep / "hparams" / "a")).Reload().Tags()["scalars"]
    assert {"nfe", "mse", "frechet", "seconds"} <= set(scalars)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"tables": {', "is not JSON"),
        ("[1, 2]", "holds no JSON object"),
        ("{}", r"is no summary of a run \(KeyError: 'seconds'\)"),
        ('{"tables": {"all": []}, "seconds": {}, "commit": null}', "is no summary of a run"),
        ('{"tables": {"all": [{"mse": "low"}]}, "seconds": {}, "commit": null}', "is no summary of a run"),
        (
            '{"tables": {"all": [{"mse": NaN}]}, "seconds": {}, "commit": null}',
            r"is no summary of a run \(ValueError: nan",
        ),
        ('{"tables": [1], "seconds": {"all": 1}, "commit": null}', "is no summary of a run"),
        (None, "is missing"),
    ],
)
def test_a_damaged_summary_is_one_failure_among_the_others(content, told, sweep):
    """Of a job that said it was well; None: its run's folder went away."""
    (sweep / "jobs" / f"{2**22 + 2}_0_result.pkl").write_bytes(WELL)
    if content is not None:
        shutil.copytree(sweep / "a", sweep / "c")
        (sweep / "c" / "summary.json").write_text(content)
    ended = command(report.main, str(sweep))
    assert (ended.status, "1 done, 0 running, 0 queued, 2 failed" in ended.out) == (0, True), ended.err
    assert re.search(rf"^failed +\d+ +c: .*c/summary\.json {told}", ended.out, re.MULTILINE), ended.out
    rows = list(csv.DictReader((sweep / "leaderboard.csv").open()))
    assert [(row["run"], row["state"]) for row in rows] == [("a", "done"), ("b", "failed"), ("c", "failed")]


@pytest.mark.parametrize(
    "content", [b"", WELL[:-4], b"\0" + WELL, b"\xff" * 64, pickle.dumps(1), b"cos\nabort\n(tR."]
)
def test_a_damaged_result_is_named_and_runs_nothing(content, sweep):
    path = sweep / "jobs" / f"{2**22 + 2}_0_result.pkl"
    path.write_bytes(content)
    ended = command(report.main, str(sweep))
    assert (ended.status, "1 done, 0 running, 0 queued, 2 failed" in ended.out) == (0, True), ended.err
    assert re.search(rf"^failed .* c: {path} cannot be read", ended.out, re.MULTILINE), ended.out


def test_a_failed_job_says_why(sweep):
    ended = command(report.main, str(sweep))
    assert re.search(r"^failed .* b: Traceback <x>$", ended.out, re.MULTILINE)
    assert re.search(r"^failed .* c: left no result \(gone\)$", ended.out, re.MULTILINE)


def test_what_is_no_sweep_is_named(tmp_path):
    ended = command(report.main, str(tmp_path))
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert f"sweep={tmp_path} has no sweep.json" in ended.err
