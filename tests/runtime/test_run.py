import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.runtime.run import Run

CONFIG = {
    "seed": 0,
    "debug": False,
    "model": {"name": "dit", "width": 96},
    "optimizer": {"lr": 1e-5, "betas": [0.9, 0.99]},
}


def test_nameless_runs_never_meet(tmp_path):
    folders = {Run.create(tmp_path / "runs", None).folder for _ in range(50)}
    assert len(folders) == 50
    assert all(re.fullmatch(r"\d{8}_\d{6}_[a-z0-9]{6}", folder.name) for folder in folders)


def test_a_taken_name_is_drawn_again(tmp_path, monkeypatch):
    letters = iter("aaaaaaaaaaaabbbbbb")
    monkeypatch.setattr("tpdm.runtime.run.secrets.choice", lambda _: next(letters))
    monkeypatch.setattr("tpdm.runtime.run.time.strftime", lambda _: "20250101_000000")
    assert [Run.create(tmp_path, None).folder.name[-6:] for _ in range(2)] == ["aaaaaa", "bbbbbb"]


def test_a_named_run_is_reopened(tmp_path):
    Run.create(tmp_path, "mine").write_json("summary.json", {"a": 1})
    assert Run.create(tmp_path, "mine").read_json("summary.json") == {"a": 1}


@pytest.mark.parametrize("name", ["../a", "a/b", "..", ".", "", "/tmp/a"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="run_name="):
        Run.create(tmp_path / "runs", name)
    assert not (tmp_path / "a").exists()


def test_open_names_the_nearest_run(tmp_path):
    run = Run.create(tmp_path, "digits_long")
    with pytest.raises(ValueError, match="no run"):
        Run.open(tmp_path / "digits_long")
    run.keep_config(CONFIG)
    assert Run.open(tmp_path / "digits_long").config == CONFIG
    with pytest.raises(ValueError, match=r"does not exist; did you mean .*digits_long"):
        Run.open(tmp_path / "digit_long")


def test_a_config_comes_back_and_may_not_change(tmp_path):
    Run.create(tmp_path, "a").keep_config(CONFIG)
    run = Run.create(tmp_path, "a")
    run.keep_config(CONFIG | {"debug": True}, ignore=["debug"])
    assert run.config == CONFIG
    changed = CONFIG | {"model": {"name": "dit", "width": 128}}
    with pytest.raises(ValueError, match=r"with model\.width=96 and cannot go on with model\.width=128"):
        run.keep_config(changed)
    run.keep_config(changed, ignore=["model"])
    with pytest.raises(ValueError, match=r"model\.depth=unset .* model\.depth=6"):
        run.keep_config(CONFIG | {"model": CONFIG["model"] | {"depth": 6}})
    with pytest.raises(ValueError, match=r"seed=0 .* seed=unset"):
        run.keep_config(
            {key: value for key, value in CONFIG.items() if key != "seed"}, ignore=["see", "debug"]
        )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(config=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), values))
def test_any_config_agrees_with_itself_after_a_resume(tmp_path_factory, config):
    root = tmp_path_factory.mktemp("runs")
    Run.create(root, "a").keep_config(config)
    Run.create(root, "a").keep_config(config)


@pytest.mark.parametrize("damage", ["a: [1", "", "- 1"])
def test_a_damaged_config_is_named(tmp_path, damage):
    run = Run.create(tmp_path, "a")
    (run.folder / "config.yaml").write_text(damage)
    with pytest.raises(ValueError, match=r"config\.yaml .*cut short or edited") as error:
        run.keep_config(CONFIG)
    assert "\n" not in str(error.value)


HOLD = """
import sys
import time
from pathlib import Path
from pathlib import Path
from tpdm.runtime.run import Run
with Run(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_dies(tmp_path):
    run = Run.create(tmp_path, "a")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(ValueError, match=rf"a is in use by process {holder.pid} on {socket.gethostname()}"),
        run.lock(),
    ):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with run.lock():
        assert json.loads((run.folder / ".lock").read_text())["pid"] == os.getpid()


def test_the_lock_is_let_go_while_a_forked_worker_lives(tmp_path):
    run = Run.create(tmp_path, "a")
    with run.lock():
        worker = multiprocessing.get_context("fork").Process(target=signal.pause)
        worker.start()
    with run.lock():
        pass
    worker.kill()
    worker.join()


KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from tpdm.runtime.process import take_children_along
from tpdm.runtime.run import Run
if sys.argv[2] == "along":
    take_children_along()
with Run(Path(sys.argv[1])).lock():
    worker = multiprocessing.get_context("fork").Process(target=signal.pause)
    worker.start()
    print(worker.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("children", ["along", "left"])
def test_the_lock_of_a_killed_process_is_free_while_its_forked_worker_lives(tmp_path, children):
    run = Run.create(tmp_path, "a")
    line = [sys.executable, "-c", KILLED, str(run.folder), children]
    killed = subprocess.Popen(line, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    with killed.stdout:  # the worker has it too, so there is no end to wait for
        worker = int(killed.stdout.readline())
    assert killed.wait() == -signal.SIGKILL
    with run.lock(patience_s=10):  # the worker may not have been its own for a moment yet
        pass
    if children == "along":
        until_gone(worker)
    else:
        os.kill(worker, signal.SIGKILL)


def until_gone(process):
    for _ in range(1000):
        try:
            if ") Z " in Path(f"/proc/{process}/stat").read_text():  # ended, and nobody has asked
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    raise AssertionError(f"{process} lives on")


def test_an_error_inside_the_lock_is_not_taken_for_one_of_the_lock(tmp_path):
    run = Run.create(tmp_path, "a")
    with pytest.raises(FileNotFoundError, match="elsewhere"), run.lock(), open(tmp_path / "elsewhere"):
        pass


def test_config_is_readable_yaml_in_the_order_given(tmp_path):
    run = Run.create(tmp_path, "a")
    run.keep_config(CONFIG)
    assert list(yaml.safe_load((run.folder / "config.yaml").read_text())) == list(CONFIG)
