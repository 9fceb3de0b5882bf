"""Whoever runs out of memory says what for, and which setting halves it. The allocations here do fail."""

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from tests.codec.test_sd3_text import text_of
from tests.pipelines import save_pipeline
from tests.runs import TINY, command
from tests.test_codec_training import SIZES
from tpdm import evaluate, sample, train
from tpdm.codec.identity import IdentityCodec
from tpdm.codec.latent import LatentCodec
from tpdm.denoiser import Denoiser
from tpdm.evaluation import evaluation
from tpdm.reward.scorer import Scorer
from tpdm.runtime.memory import memory_for
from tpdm.trainer import pool
from tpdm.trainer.codec import CodecTrainer


def hungry(*args, **kwargs):
    """More than any machine has."""
    return torch.empty(2**50)


def test_another_fault_is_left_as_it_is():
    with pytest.raises(RuntimeError, match="size of tensor"), memory_for("much", "less"):
        torch.zeros(2) + torch.zeros(3)


@pytest.mark.parametrize(
    ("patched", "more", "told"),
    [
        ((Denoiser, "loss"), [], "8 samples (trainer.batch_size=8 over trainer.accumulate=1); trainer.acc"),
        ((pool, "reference"), ["denoiser"], "4 trajectories of the exact ODE (predictor_trainer.prompts=2)"),
    ],
)
def test_training_names_its_batch(patched, more, told, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(*patched, hungry)
    argv = [f"denoiser={finished / 'denoiser'}" for _ in more]
    ended = command(train.main, *TINY, f"runs={tmp_path}", *argv)
    assert ended.status == 1
    assert f"tpdm: error: MemoryError: out of memory with {told}" in ended.err, ended.err


def test_a_codec_names_its_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(CodecTrainer, "update", hungry)
    argv = ("stage=codec", "data=digits", *SIZES, f"runs={tmp_path}", "codec_trainer.batch_size=4")
    ended = command(train.main, *argv)
    assert ended.status == 1
    told = "out of memory with 4 images at once (codec_trainer.batch_size); codec_trainer.batch_size=2 halves"
    assert told in ended.err, ended.err


def test_sampling_names_its_batch_and_leaves_no_picture(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(IdentityCodec, "decode", hungry)
    ended = command(sample.main, f"run={finished}", "seeds=0-3", "grid=2x2", f"out={tmp_path / 'a.png'}")
    assert ended.status == 1
    told = "out of memory with 4 images at once (batch_size); batch_size=2 halves them"
    assert ended.err == f"tpdm: error: MemoryError: {told}\n"
    assert list(tmp_path.iterdir()) == []


def test_evaluation_names_its_batch(copy, monkeypatch):
    monkeypatch.setattr(
        evaluation, "reference", lambda denoiser, noise, *rest: hungry() if len(noise) > 1 else noise
    )
    ended = command(evaluate.main, f"run={copy}", "batch_size=8")
    assert ended.status == 1
    assert "out of memory with 8 images at once (evaluation.batch_size); evaluation.batch_size=4" in ended.err


class Hungry(Scorer, LatentCodec):
    """A reward, and a codec, whose networks take everything."""

    sizes, load, score = None, None, hungry


def test_rewards_codecs_and_encoders_name_theirs(tmp_path, monkeypatch):
    reward = Hungry(None, 4, torch.device("cpu"), "reward")
    with pytest.raises(MemoryError, match=r"3 images at once \(reward\.batch_size\); reward\.batch_size=1"):
        reward(torch.zeros(3, 3, 2, 2), None, None, ["a"] * 3)
    with pytest.raises(MemoryError, match=r"4 images at once \(codec\.batch_size\); codec\.batch_size=2"):
        reward.by_parts(hungry, torch.zeros(9, 3, 2, 2))
    monkeypatch.setattr(StableDiffusion3Pipeline, "encode_prompt", hungry)
    text = text_of(save_pipeline(tmp_path / "pipe"), batch_size=2)
    with pytest.raises(MemoryError, match=r"2 prompts at once \(codec\.text\.batch_size\); .*=1 halves them"):
        text(["a", "red", "cat"])
