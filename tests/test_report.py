"""`python -m tpdm.report` on a sweep of three jobs of which one is done, one failed and one vanished."""

import csv
import os
import pickle
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs import command
from tpdm import report
from tpdm.launcher.sweep import Sent, Sweep


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


def test_a_summary_cut_short_is_one_failure_among_the_others(sweep):
    shutil.copytree(sweep / "a", sweep / "c")
    (sweep / "c" / "summary.json").write_text('{"tables": {')
    with pytest.warns(UserWarning, match=r"c/summary.json is not JSON"):
        ended = command(report.main, str(sweep))
    assert (ended.status, "1 done, 0 running, 0 queued, 2 failed" in ended.out) == (0, True), ended.err


def test_what_is_no_sweep_is_named(tmp_path):
    ended = command(report.main, str(tmp_path))
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert f"sweep={tmp_path} has no sweep.json" in ended.err
