"""No published file runs code, whichever setting names it: a pickle that would leave a file leaves none."""

import json
import pickle
import shutil

import pytest
import torch

from tests.pipelines import save_pipeline
from tests.reward.published import save_clip, save_image_reward
from tests.reward.test_hpsv2 import SIZES
from tests.test_published import Exploit
from tpdm.codec.sd3_text import SD3Text
from tpdm.model.pretrained import SD3
from tpdm.registry import build
from tpdm.types import DataShape, TextSpec

CPU, PROMPTS = torch.device("cpu"), ["a cat", "a dog"]
COST = {"cost": {"name": "linear", "cost": 0.0}, "batch_size": 2}


def judge(name, **choices):
    build("reward", {"name": name, **COST, **choices}, device=CPU)(
        torch.zeros(2, 3, 16, 16), None, None, PROMPTS
    )


def image_reward(folder, harm):
    judged = save_image_reward(folder / "judge")
    torch.save({"weight": harm}, judged / "ImageReward.pt")
    judge("image_reward", path=str(judged), tokenizer=str(judged))


def hpsv2(folder, harm):
    open_clip = pytest.importorskip("open_clip")
    (folder / "tpdm-tiny.json").write_text(json.dumps(SIZES))
    open_clip.add_model_config(folder / "tpdm-tiny.json")
    torch.save({"state_dict": {"weight": harm}}, folder / "hps.pt")
    judge("hpsv2", path=str(folder), weights="hps.pt", arch="tpdm-tiny")


def aesthetic(folder, harm):
    torch.save({"weight": harm}, folder / "head.pth")
    judge("aesthetic", path=str(save_clip(folder / "clip")), head=str(folder / "head.pth"))


def clip_score(folder, harm):
    clip = save_clip(folder / "clip")
    (clip / "model.safetensors").unlink()
    torch.save({"weight": harm}, clip / "pytorch_model.bin")
    judge("clip_score", path=str(clip), processor=str(clip))


def predictor(folder, harm):
    torch.save({"time_predictor.conv1.weight": harm}, folder / "a.pt")
    build(
        "predictor",
        {"name": "official", "path": str(folder / "a.pt"), "token_order": "folded"},
        features=None,
    )


def old_pickle(folder, harm):
    (folder / "a.bin").write_bytes(pickle.dumps(harm, protocol=0))
    build(
        "predictor",
        {"name": "official", "path": str(folder / "a.bin"), "token_order": "folded"},
        features=None,
    )


def transformer(folder, harm):
    pipe = save_pipeline(folder / "pipe")
    for file in (pipe / "transformer").glob("*.safetensors"):
        file.unlink()
    torch.save({"weight": harm}, pipe / "transformer" / "diffusion_pytorch_model.bin")
    SD3(str(pipe), "float32", None, shape=DataShape(4, 8, 8), cond=TextSpec(16, 20, 93))


def lora(folder, harm):
    torch.save({"weight": harm}, folder / "pytorch_lora_weights.bin")
    pipe, weights = str(save_pipeline(folder / "pipe")), str(folder / "pytorch_lora_weights.bin")
    SD3(pipe, "float32", weights, shape=DataShape(4, 8, 8), cond=TextSpec(16, 20, 93))


def text_encoder(folder, harm):
    pipe = save_pipeline(folder / "pipe")
    (pipe / "text_encoder_3" / "model.safetensors").unlink()
    torch.save({"weight": harm}, pipe / "text_encoder_3" / "pytorch_model.bin")
    SD3Text(str(pipe), 16, 2, "float32", None)(PROMPTS)


def autoencoder(folder, harm):
    pipe = save_pipeline(folder / "pipe")
    shutil.move(pipe / "vae" / "diffusion_pytorch_model.safetensors", folder)
    torch.save({"weight": harm}, pipe / "vae" / "diffusion_pytorch_model.bin")
    build("codec", {"name": "sd_vae", "path": str(pipe), "batch_size": 2}).decode(torch.zeros(1, 4, 8, 8))


LOADERS = (
    image_reward, hpsv2, aesthetic, clip_score, predictor, old_pickle, transformer, lora, text_encoder,
    autoencoder,
)  # fmt: skip


@pytest.mark.parametrize("load", LOADERS)
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(load, tmp_path):
    with pytest.raises(ValueError, match=r"can be read safely|has no .*safetensors"):
        load(tmp_path, Exploit(tmp_path / "exploited"))
    assert not (tmp_path / "exploited").exists()
