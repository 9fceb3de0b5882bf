"""A run whose files are gone, cut short or edited is told of by the file, and left as it is."""

import json
import shutil
from unittest.mock import patch

import pytest

from tests.runs import TINY, at, command, files, refused
from tpdm import evaluate, sample, train
from tpdm.finished import FinishedRun


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def altered(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def gone(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


DAMAGE = [
    (gone, "denoiser/model.safetensors", "denoiser/model.safetensors is missing; copy the folder again"),
    (gone, "denoiser/config.json", "denoiser/config.json is missing"),
    (gone, "predictor", "is unfinished: its predictor is still to come; go on with the command that started"),
    (gone, "time_only", "is unfinished: its time_only is still to come"),
    (gone, "summary.json", "is unfinished: its summary.json is still to come"),
    (gone, "config.yaml", "copy has no config.yaml, so it is no run"),
    (cut_short, "denoiser/model.safetensors", "denoiser/model.safetensors is cut short ("),
    (cut_short, "predictor/model.safetensors", "predictor/model.safetensors is cut short ("),
    (cut_short, "predictor/config.json", "predictor/config.json is not JSON ("),
    (altered, "denoiser/model.safetensors", "model.safetensors was changed after it was written (sha256 dif"),
    (altered, "predictor/model.safetensors", "model.safetensors was changed after it was written (sha256 d"),
]  # fmt: skip


@pytest.mark.parametrize("main", [sample.main, evaluate.main])
@pytest.mark.parametrize(
    ("damage", "name", "line"), DAMAGE, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_damaged_run_is_not_opened(damage, name, line, main, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    damage(copy / name)
    before = files(copy)
    refused(command(main, f"run={copy}"), line)
    assert {**files(copy), ".lock": 0} == {**before, ".lock": 0}


def test_a_checkpoint_cut_short_is_named_and_kept(finished, tmp_path):
    def stop():
        raise KeyboardInterrupt

    with at("denoiser", 4, stop):
        command(train.main, *TINY, f"runs={tmp_path}", "run_name=a")
    newest = tmp_path / "a" / "checkpoints" / "denoiser_00000004.pt"
    cut_short(newest)
    before = files(tmp_path / "a" / "checkpoints")
    ended = command(train.main, *TINY, f"runs={tmp_path}", "run_name=a")
    assert ended.status == 2
    assert ended.err.startswith(f"tpdm: error: {newest} is cut short (")
    assert ended.err.endswith("; delete it to go on from denoiser_00000002.pt\n")
    assert files(tmp_path / "a" / "checkpoints") == before


@pytest.mark.parametrize(
    ("name", "was", "now", "line"),
    [
        (
            "denoiser/config.json",
            '"max_frequency": 100.0',
            '"max_frequency": 7.0',
            "was changed after it was written",
        ),
        (
            "config.yaml",
            "inference_dtype: float32",
            "",
            "config.yaml was changed since the run: inference_dtype is",
        ),
        ("config.yaml", "inference_dtype: float32", "inference_dtype: float99", "inference_dtype='float99'"),
    ],
)
def test_settings_that_were_changed_are_refused(finished, tmp_path, name, was, now, line):
    copy = tmp_path / "a"
    shutil.copytree(finished, copy)
    text = (copy / name).read_text()
    assert was in text
    (copy / name).write_text(text.replace(was, now))
    refused(command(sample.main, f"run={copy}", "seeds=0", "grid=1x1"), line)


def test_a_damaged_summary_is_neither_taken_for_one_nor_lost(copy):
    """Without it the run is the one that it was, at its last stage."""
    again = (*TINY, f"runs={copy.parent}", f"run_name={copy.name}")
    summary, whole = copy / "summary.json", (copy / "summary.json").read_text()
    cut, evaluated = whole[:-10], (evaluate.main, (f"run={copy}",))
    for content, (main, argv) in ((cut, (train.main, again)), ("{}", (train.main, again)), ("[]", evaluated)):
        summary.write_text(content)
        ended = command(main, *argv)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert ended.err.startswith(f"tpdm: error: {summary} ")
        assert ended.err.endswith("; without it, the command that made it makes it again\n")
        assert summary.read_text() == content
    summary.unlink()
    with patch.object(FinishedRun, "evaluate", return_value={"tables": {}}):
        assert command(train.main, *again).status == 0
    assert json.loads(summary.read_text()).keys() == json.loads(whole).keys()
