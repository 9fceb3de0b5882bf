"""Denoisers that runs share: one key for all that decides them, one training, the same runs as without."""

import os
import signal
import time

import pytest
from accelerate import Accelerator

from tests.runs import TINY, at, ended, files, forked, last_checkpoint, same, started, trained
from tpdm import sharing
from tpdm.runtime.artifact import load_artifact
from tpdm.sharing import deciding, key_of, manifest, turn


@pytest.fixture(scope="module")
def key(composed):
    def key(*overrides):
        return key_of(deciding(composed(*overrides), Accelerator(cpu=True)))

    return key


def test_what_decides_a_denoiser_decides_its_key_and_nothing_else_does(key):
    default = key()
    for same_denoiser in (
        "predictor=cnn",
        "run_name=a",
        "reward/cost=discounted",
        "predictor_trainer.max_steps=3",
        "trainer.save_every=7",
        "trainer.report_every=7",
        "trainer.preview_every=7",
        "trainer.gradient_checkpointing=true",
        "parallel=fsdp",  # one process has no share to give away
    ):
        assert key(same_denoiser) == default
    others = (
        "seed=1",
        "model/block=adaln",
        "trainer.max_steps=3",
        "data=digits",
        "optimizer.lr=1",
        "density=beta",
        "trainer.compile=true",  # fused, and so rounded, otherwise
        "trainer.batch_size=64",
        "mixed_precision=bf16",
    )
    assert len({default, *map(key, others)}) == 1 + len(others)


def test_stored_data_are_known_by_their_files(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/0.tar", "a/1.tar"):
        (tmp_path / name).write_text(name)
    whole, part = {"path": str(tmp_path / "a")}, {"path": f"{tmp_path}/a/{{0..0}}.tar"}
    before = manifest(whole), manifest(part)
    assert len(before[0]) == 2
    (tmp_path / "a" / "1.tar").write_text("longer than before")
    assert manifest(whole) != before[0]
    assert manifest(part) == before[1]


def test_stored_data_decide_a_denoiser(key, tmp_path):
    (tmp_path / "0.tar").write_text("a")
    asked = ("data=webdataset", f"data.path={tmp_path}/0.tar")
    before = key(*asked)
    assert key(*asked) == before
    (tmp_path / "0.tar").write_text("longer than before")
    assert key(*asked) != before


@pytest.mark.parametrize("part", ["source_sha256", "version"])
def test_code_and_libraries_decide_a_denoiser(part, key, monkeypatch):
    before = key()
    monkeypatch.setattr(sharing, part, lambda of: "another")
    assert key() != before


def test_it_is_trained_once_and_by_whoever_is_left(composed, finished, tmp_path):
    """The first holder is killed in the middle; the next goes on, and a third trains nothing."""
    cfg = composed(*TINY, "run_name=a", f"runs={tmp_path}", f"denoisers={tmp_path / 'shared'}")

    def killed():
        with at("denoiser", 3, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            trained(cfg)

    assert forked(killed) == -signal.SIGKILL
    trained({**cfg, "run_name": "b"})
    [shared] = (tmp_path / "shared").iterdir()
    before = files(shared)
    trained(cfg)
    after = files(shared)
    for name in set(before) - {".lock", "metrics.jsonl"}:
        assert (name, before[name]) == (name, after[name])
    assert same(last_checkpoint(shared, "denoiser"), last_checkpoint(finished, "denoiser"))
    for run in (tmp_path / "a", tmp_path / "b"):
        assert (run / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
        for folder in ("denoiser", "denoiser_raw", "predictor"):
            assert same(load_artifact(run / folder), load_artifact(finished / folder))
        assert (run / "training.gif").read_bytes() == (finished / "training.gif").read_bytes()


def test_it_has_one_holder_at_a_time(tmp_path, monkeypatch):
    decided, alone = {"seed": 0}, Accelerator(cpu=True)
    waited, entered = tmp_path / "waited", tmp_path / "entered"

    def second():
        monkeypatch.setattr(sharing, "POLL_S", 0.01)
        monkeypatch.setattr(sharing, "broadcast_object_list", lambda told: told[0] or waited.touch())
        with turn(tmp_path / "shared", decided, alone):
            entered.touch()

    with turn(tmp_path / "shared", decided, alone):
        child = started(second)
        while not waited.exists() and not entered.exists():
            time.sleep(0.01)
        assert not entered.exists()
    assert ended(child) == 0
    assert entered.exists()
