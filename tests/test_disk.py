"""A disk that is full or may not be written, and files in the way: one line, and nothing half-written."""

import errno
import os
import shutil
import subprocess
from unittest.mock import patch

import pytest

from tests.runs import SAVE_EVERY, TINY, at, command, files, last_checkpoint, raising, refused, same, trained
from tpdm import evaluate, sample, train
from tpdm.stages import Training


def test_a_file_in_the_way_of_a_run(tmp_path):
    (tmp_path / "runs").write_text("mine")
    refused(command(train.main, *TINY, f"runs={tmp_path / 'runs'}"), f"File exists: '{tmp_path / 'runs'}'")
    assert files(tmp_path).keys() == {"runs"}


def test_a_file_in_the_way_of_a_picture(finished, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in ("file/a.png", "."):
        ended = command(sample.main, f"run={finished}", f"out={tmp_path / out}", "sampler=euler", "steps=1")
        assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert files(tmp_path).keys() == {"file"}


def test_no_permission(disk, finished):
    folder = disk("size=1m,ro")
    refused(
        command(train.main, *TINY, f"runs={folder}", "run_name=a"), f"Read-only file system: '{folder}/a'"
    )
    ended = command(sample.main, f"run={finished}", f"out={folder}/a.png", "sampler=euler", "steps=1")
    refused(ended, f"Read-only file system: '{folder}/a.png'")


def test_no_permission_where_root_obeys_it_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "mkdir", raising(PermissionError(errno.EACCES, "Permission denied")))
    refused(
        command(train.main, *TINY, f"runs={tmp_path}", "run_name=a"), f"Permission denied: '{tmp_path}/a'"
    )
    assert list(tmp_path.iterdir()) == []


def fill(folder):
    """Leaves no room at all."""
    with open(folder / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**12))
        except OSError:
            return


def test_no_space_to_begin_with(disk):
    folder = disk("size=64k")
    fill(folder)
    ended = command(train.main, *TINY, f"runs={folder}", "run_name=a")
    refused(ended, f"No space left on device: '{folder}/a")
    assert files(folder).keys() == {"ballast"}


def test_no_space_on_the_way_keeps_the_last_good_checkpoint(disk, finished, composed):
    folder = disk("size=16m")
    with at("denoiser", SAVE_EVERY + 1, lambda: fill(folder)), patch.object(Training, "summarise"):
        ended = command(train.main, *TINY, f"runs={folder}", "run_name=a")
    assert ended.status == 2
    last = ended.err.splitlines()[-1]
    assert last.startswith("tpdm: error: [Errno 28] No space left on device")
    assert last_checkpoint(folder / "a", "denoiser")["step"] == SAVE_EVERY
    (folder / "ballast").unlink()
    trained(composed(*TINY, f"runs={folder}", "run_name=a"))
    assert same(last_checkpoint(folder / "a", "predictor"), last_checkpoint(finished, "predictor"))


def test_no_space_for_a_picture(disk, finished):
    folder = disk("size=64k")
    fill(folder)
    ended = command(sample.main, f"run={finished}", f"out={folder}/a.png", "sampler=euler", "steps=1")
    refused(ended, f"No space left on device: '{folder}/a.png'")
    assert files(folder).keys() == {"ballast"}


def test_no_space_for_the_table_keeps_the_old_one(disk, finished):
    folder = disk("size=16m")
    copy = shutil.copytree(finished, folder / "copy")
    fill(folder)
    before = files(copy)
    ended = command(evaluate.main, f"run={copy}")
    assert ended.status == 2
    assert ended.err.startswith("tpdm: error: [Errno 28] No space left on device: ")
    assert {**files(copy), ".lock": 0} == {**before, ".lock": 0}


def test_a_run_that_may_not_be_written_is_evaluated_and_keeps_nothing(disk, finished):
    folder = disk("size=16m")
    copy = shutil.copytree(finished, folder / "copy")
    before = files(copy)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    ended = command(evaluate.main, f"run={copy}")
    assert (ended.status, ended.err) == (0, "")
    assert "\npredictor  " in ended.out
    assert ended.out.endswith(f"{copy} may not be written, so that neither tables nor pictures are kept\n")
    refused(command(evaluate.main, f"run={copy}", "suite=arena"), "may not be written, where suite=arena")
    assert files(copy) == before


@pytest.mark.parametrize("name", ["config.yaml", "denoiser/model.safetensors", "picture.jpg"])
def test_a_picture_is_never_written_over_something_else(finished, name):
    before = files(finished)
    refused(command(sample.main, f"run={finished}", "seeds=0", "grid=1x1", f"out={finished / name}"), ".png")
    assert files(finished) == before
