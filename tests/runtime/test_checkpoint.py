import errno
import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.runtime.checkpoint import Checkpoints

PROCESSES = multiprocessing.get_context("forkserver")  # a child that need not import torch again
PROCESSES.set_forkserver_preload([__name__])


def state_of(step: int) -> dict:
    return {"weights": torch.full((64,), float(step)), "step": step, "lr": 1e-3, "names": ["a", "b"]}


def assert_latest(checkpoints: Checkpoints, step: int) -> None:
    found, state = checkpoints.load_latest()
    assert found == state["step"] == step
    torch.testing.assert_close(state["weights"], torch.full((64,), float(step)), rtol=0, atol=0)


def names(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_newest_comes_back_and_old_ones_go(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", "denoiser", keep=2)
    assert checkpoints.load_latest() is None
    for step in (1, 5, 10):
        path = checkpoints.save(step, state_of(step))
        assert_latest(checkpoints, step)
    assert path.name == "denoiser_00000010.pt"
    files = ["denoiser_00000005.pt", "denoiser_00000010.pt"]
    assert names(path.parent) == sorted(files + [f"{f}.json" for f in files])


def test_prefixes_do_not_meet(tmp_path):
    first, second = Checkpoints(tmp_path, "a", keep=1), Checkpoints(tmp_path, "a_b", keep=1)
    for step in (1, 2):
        first.save(step, state_of(step))
        second.save(step + 7, state_of(step + 7))
    assert_latest(first, 2)
    assert_latest(second, 9)


def test_a_step_saved_again_replaces_the_first(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(3, {"x": 1})
    checkpoints.save(3, {"x": 2})
    assert checkpoints.load_latest() == (3, {"x": 2})


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, "a", keep=0)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_flipped_byte_or_cut_is_named_and_deleting_falls_back(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    checkpoints = Checkpoints(folder, "a")
    checkpoints.save(1, state_of(1))
    path = checkpoints.save(2, state_of(2))
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
        expected = "cut short"
    else:
        whole[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
        expected = "was changed"
    with pytest.raises(ValueError, match=rf"a_00000002\.pt .*{expected}.*; delete it to .* a_00000001\.pt$"):
        checkpoints.load_latest()
    path.unlink()
    assert_latest(checkpoints, 1)
    checkpoints.save(2, state_of(2))
    assert_latest(checkpoints, 2)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'[{"size": 1}]', b'[{"bytes": 1,'])
def test_a_damaged_manifest_is_named(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, "a")
    path = checkpoints.save(1, state_of(1))
    path.with_name(path.name + ".json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"a_00000001\.pt .*; delete it to start again$") as error:
        checkpoints.load_latest()
    assert "\n" not in str(error.value)


def test_a_deleted_half_does_not_count(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a", keep=3)
    paths = [checkpoints.save(step, state_of(step)) for step in (1, 2, 3)]
    paths[2].unlink()
    assert_latest(checkpoints, 2)
    paths[1].with_name(paths[1].name + ".json").unlink()
    assert_latest(checkpoints, 1)


def save_forever(folder: str, keep: int) -> None:
    checkpoints = Checkpoints(folder, "a", keep)
    start = checkpoints.load_latest()
    for step in itertools.count(0 if start is None else start[0]):
        for again in range(2):  # the second time over the first, with another content
            checkpoints.save(step, state_of(step) | {"again": again})


@pytest.mark.parametrize("keep", [1, 2])
def test_a_kill_at_any_moment_leaves_a_newest_that_loads(tmp_path, keep):
    checkpoints, newest = Checkpoints(tmp_path, "a", keep), -1
    for _ in range(10):
        process = PROCESSES.Process(target=save_forever, args=(str(tmp_path), keep))
        process.start()
        old = f"a_{newest:08d}.pt.json"
        while process.is_alive() and all(p.name <= old for p in tmp_path.glob("*.json")):
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        found, _ = checkpoints.load_latest()
        assert found > newest
        assert_latest(checkpoints, found)
        newest = found
    checkpoints.save(newest + 1, state_of(newest + 1))
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
    assert len(names(tmp_path)) <= 2 * keep


@contextmanager
def small_disk(folder):
    """A file system of 256 KiB; skipped where the user may not mount one."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path):
    with small_disk(tmp_path):
        checkpoints = Checkpoints(tmp_path, "a")
        checkpoints.save(1, state_of(1))
        with pytest.raises(OSError, match=r"a_00000002\.pt'$") as error:
            checkpoints.save(2, {"weights": torch.zeros(1_000_000), "step": 2})
        assert error.value.errno == errno.ENOSPC
        assert_latest(checkpoints, 1)
        assert names(tmp_path) == ["a_00000001.pt", "a_00000001.pt.json"]
        checkpoints.save(2, state_of(2))
        assert_latest(checkpoints, 2)


def test_a_limit_on_file_size_keeps_the_previous_checkpoint(tmp_path):
    """As a full disk, for those who may not mount one: EFBIG in a process of its own."""
    Checkpoints(tmp_path, "a").save(1, state_of(1))
    process = PROCESSES.Process(target=save_with_little_room, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == errno.EFBIG
    assert_latest(Checkpoints(tmp_path, "a"), 1)
    assert names(tmp_path) == ["a_00000001.pt", "a_00000001.pt.json"]


def save_with_little_room(folder: str) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        Checkpoints(folder, "a").save(2, {"weights": torch.zeros(100_000)})
    except OSError as error:
        os._exit(error.errno if str(error).endswith("a_00000002.pt'") else 1)


def test_no_permission_names_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Checkpoints(tmp_path / "file", "a").save(1, state_of(1))
