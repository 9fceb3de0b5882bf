import os
import signal
import time

import pytest
import torch

from tpdm.runtime.workers import POLL_S, BusyError, each


def nothing():
    pass


@pytest.mark.parametrize("processes", [1, 3])
def test_every_task_is_done_once(processes, tmp_path):
    each(lambda task: (tmp_path / str(task)).mkdir(), range(20), processes, nothing)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(20))


def test_several_processes_work_at_once_with_a_thread_each(tmp_path):
    """Each waits until the other is there, which in turn would never be."""

    def meet(task):
        (tmp_path / f"{task} {os.getpid()} {torch.get_num_threads()}").touch()
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)

    each(meet, [0, 1], 2, nothing)
    seen = [path.name.split() for path in tmp_path.iterdir()]
    assert len({pid for _, pid, _ in seen} - {str(os.getpid())}) == 2
    assert [threads for *_, threads in seen] == ["1", "1"]


def test_the_first_error_ends_all_and_is_raised_as_it_was(tmp_path):
    def fail(task):
        if task == 1:
            raise ValueError("no room")
        (tmp_path / str(task)).touch()
        time.sleep(60)

    with pytest.raises(ValueError, match=r"^no room") as caught:
        each(fail, [0, 1], 2, nothing)
    assert "in fail" in caught.value.__notes__[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"0"}


def test_whoever_waits_for_another_goes_later(tmp_path):
    """One task makes a file; one that needs it comes while it is being made, and is not tried in between."""

    def work(task):
        if task == "make":
            while not (tmp_path / "other").exists():
                time.sleep(0.01)
            (tmp_path / "made").touch()
        elif task == "need":
            with open(tmp_path / "tries", "a") as file:
                file.write("x")
            if not (tmp_path / "made").exists():
                raise BusyError(tmp_path / "made")
            (tmp_path / "needed").touch()
        else:
            (tmp_path / "other").touch()

    each(work, ["make", "need", "other"], 2, nothing)
    assert (tmp_path / "needed").exists()
    assert (tmp_path / "tries").read_text() == "xx"


def test_a_process_that_is_killed_is_told_of():
    with pytest.raises(RuntimeError, match="was killed"):
        each(lambda task: os.kill(os.getpid(), signal.SIGKILL), [0, 1], 2, nothing)


def test_an_error_that_cannot_be_sent_is_told_all_the_same():
    class LocalError(Exception):
        pass

    def fail(task):
        raise LocalError("no room")

    with pytest.raises(RuntimeError, match="LocalError: no room"):
        each(fail, [0, 1], 2, nothing)


def test_what_a_stranger_makes_is_asked_for_now_and_then(tmp_path):
    """Nobody here makes the file: it comes after a few looks, and not after thousands."""
    looks = []

    def work(task):
        if not (tmp_path / "made").exists():
            raise BusyError(tmp_path / "made")
        (tmp_path / "needed").touch()

    def tick():
        looks.append(0)
        if len(looks) == 4:
            (tmp_path / "made").touch()

    start = time.monotonic()
    each(work, ["need"], 2, tick)
    assert (tmp_path / "needed").exists()
    assert time.monotonic() - start > POLL_S
