"""A Time Predictor on a tiny Stable Diffusion 3 from a folder in the published layout, by the commands."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel
from huggingface_hub import constants
from transformers import AutoTokenizer

from tests.pipelines import SD35, save_pipeline
from tests.reward.published import save_clip, save_image_reward
from tests.runs import LOOPS, PREDICTOR, command, files, refused
from tests.test_docs import ROOT, compose_experiment
from tpdm import sample, train
from tpdm.pipeline import TPDMPipeline
from tpdm.runtime.artifact import load_artifact

PROMPTS = ["a red cat", "the dog on the mat", "sunset over mountains", "a blue dog"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    save_pipeline(folder / "sd3")
    save_pipeline(folder / "sd35", **SD35)
    save_clip(folder / "clip")
    save_image_reward(folder / "reward")
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    return folder


SMALL = [s for s in (*PREDICTOR, *LOOPS) if not s.startswith(("evaluation.", "baseline", "predictor."))]
MODELS = {"sd3": "sd3", "sd35": "sd35_medium"}  # by the folder
SIZES = {
    "vit": [s for s in PREDICTOR if s.startswith("predictor.")],
    "cnn": ["predictor.width=8", "predictor.groups=2"],
    "hybrid": ["predictor.arch.width=8", "predictor.arch.num_heads=2"],
}


def settings(published, runs, *more, predictor="vit", folder="sd3"):
    clip, judge = published / "clip", published / "reward"
    return (
        f"model={MODELS[folder]}", f"model.path={published / folder}", "model.dtype=float32",
        "codec.text.max_tokens=16", "data=prompts", f"data.path={published / 'prompts.jsonl'}",
        "data.size=32", "reward=image_reward", f"reward.path={judge}", f"reward.tokenizer={judge}",
        "+reward@held_out=clip_score", f"held_out.path={clip}",
        f"predictor={predictor}", *SIZES[predictor], *SMALL, "predictor_trainer.max_steps=2",
        f"runs={runs}", "run_name=a", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(published, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    ended = command(train.main, *settings(published, runs, f"denoisers={runs / 'shared'}"))
    assert ended.status == 0, ended.err
    return runs / "a"


def test_only_the_predictor_trains_and_both_rewards_are_logged(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"predictor"}
    assert all(line["reward"] is not None and line["held_out"] is not None for line in lines)
    _, state = load_artifact(run / "denoiser")
    assert list(state) == ["_extra_state"]
    assert not (run.parent / "shared").exists()  # nothing is trained that a sweep could share


def test_a_contest_and_its_baseline_are_had_for_the_asking(composed):
    plain = composed("model=sd3", "data=prompts", "data.path=a.txt")
    assert (plain["evaluation"], plain["baseline"]) == (None, None)
    asked = composed(
        "model=sd3", "evaluation=images", "predictor@baseline=time_only", "data=prompts", "data.path=a"
    )
    assert (asked["evaluation"]["name"], asked["baseline"]["name"]) == ("images", "time_only")


def test_it_is_finished_and_found_finished(run, published):
    before = files(run)
    ended = command(train.main, *settings(published, run.parent))
    assert ended.status == 0, ended.err
    assert "finished already" in ended.out
    kept = ("predictor/model.safetensors", "metrics.jsonl")
    assert all(files(run)[name][1] == before[name][1] for name in kept)


def test_it_is_sampled_from_by_prompt(run, tmp_path):
    out = tmp_path / "picture.png"
    ended = command(
        sample.main, f"run={run}", "prompt=a red cat", "seeds=0-1", "grid=1x2", f"out={out}", "max_nfe=4"
    )
    assert ended.status == 0, ended.err
    assert out.exists()


@pytest.mark.parametrize("folder", MODELS)
@pytest.mark.parametrize("predictor", ["cnn", "hybrid"])
def test_every_predictor_trains_on_either_transformer(predictor, folder, published, tmp_path):
    ended = command(train.main, *settings(published, tmp_path, predictor=predictor, folder=folder))
    assert ended.status == 0, ended.err
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1]
    assert all(line["grad_norm"] > 0 for line in lines)
    pipe = TPDMPipeline.from_pretrained(published / folder, predictor=tmp_path / "a")
    answer = pipe("a red cat", height=32, width=32, max_sequence_length=16, max_steps=3, output_type="pt")
    assert answer.images.isfinite().all()


def test_a_group_that_the_reward_cannot_judge_is_left_out_until_they_are_too_many(published, tmp_path):
    """ImageReward does not know what to say of a sunset: its embedding is no number."""
    judge = shutil.copytree(published / "reward", tmp_path / "reward")
    state = torch.load(judge / "ImageReward.pt", weights_only=True)
    words = AutoTokenizer.from_pretrained(judge).get_vocab()
    state["blip.text_encoder.embeddings.word_embeddings.weight"][words["sunset"]] = torch.nan
    torch.save(state, judge / "ImageReward.pt")
    (tmp_path / "prompts.txt").write_text("a red cat\nthe dog\nsunset over mountains\na blue dog\n" * 4)
    argv = settings(
        published, tmp_path / "runs", f"data.path={tmp_path / 'prompts.txt'}", f"reward.path={judge}",
        "predictor_trainer.prompts=8", "predictor_trainer.pool_size=32", "predictor_trainer.max_left_out=0.9",
    )  # fmt: skip
    ended = command(train.main, *argv)
    assert ended.status == 0, ended.err
    lines = [json.loads(x) for x in (tmp_path / "runs" / "a" / "metrics.jsonl").read_text().splitlines()]
    assert 0 < lines[0]["left_out"] <= lines[1]["left_out"] < 16
    assert all(np.isfinite([line["reward"], line["loss"], line["grad_norm"]]).all() for line in lines)

    ended = command(train.main, *argv, "run_name=b", "predictor_trainer.max_left_out=0")
    assert ended.status == 1
    assert re.search(r"reward is nan for an image in \d of 8 groups, more than .*max_left_out=0 ", ended.err)


def test_another_pipeline_in_its_place_is_noticed(run, published, tmp_path):
    """The weights are not the run's own, so what it was trained on can be exchanged behind its back."""
    moved, copy = tmp_path / "kept", tmp_path / "runs"
    shutil.copytree(run.parent, copy)
    shutil.move(published / "sd3", moved)
    try:
        save_pipeline(published / "sd3", num_layers=1)
        ended = command(sample.main, f"run={copy / 'a'}", "prompt=a cat", "seeds=0", "grid=1x1")
    finally:
        shutil.rmtree(published / "sd3")
        shutil.move(moved, published / "sd3")
    assert ended.status == 2
    assert "has other weights now than when this was trained" in ended.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.path=nowhere", "model.path=nowhere is no folder here"),
        ("model.path=some/model", "hf download some/model --local-dir FOLDER`, copy FOLDER here and set"),
        ("reward.path=nowhere", "reward.path=nowhere is no folder here"),
        ("held_out.path=nowhere", "held_out.path=nowhere is no folder here"),
        ("data.size=36", "multiples of 2 up to 16; codec=sd_vae makes latents of that size of data.size=36"),
        ("model.lora=nowhere", "model.lora=nowhere has no .safetensors"),
        ("data.path=empty.jsonl", "data.path=empty.jsonl has 0 prompts"),
        ("data.path=cut.jsonl", "cut.jsonl, line 2, is not JSON"),
        ("data.path=number.jsonl", "number.jsonl, line 3, is no prompt; write a string, or a mapping with"),
    ],
)
def test_what_does_not_fit_is_told_before_a_run_exists(change, message, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")  # a network that is down
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    contents = {"empty": "", "cut": '"a"\n{"prompt": "b"', "number": '"a"\n\n{"prompt": 3}'}
    for name, content in contents.items():
        (tmp_path / f"{name}.jsonl").write_text(content)
    refused(command(train.main, *settings(published, tmp_path / "runs"), change), message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (
            "model_index.json",
            "has no model_index.json; expected there: model_index.json, text_enc",
        ),
        ("transformer", "model.path={} has no transformer/config.json; expected there: transformer/config.j"),
        ("transformer/*.safetensors", "model.path={} has no transformer/*.safetensors; expected there: tran"),
        ("vae", "codec.path={} has no config.json: {}/vae/config.json is missing"),
        ("vae/*.safetensors", "vae/diffusion_pytorch_model.safetensors is missing"),
        ("text_encoder_2", "codec.text.path={} has no text_encoder_2/config.json; expected there: model_i"),
        ("text_encoder_3/*.safetensors", "codec.text.path={} has no text_encoder_3/*.safetensors; expected"),
        (
            "tokenizer_3",
            "codec.text.path={} has no tokenizer_3/*; expected there: model_index.json, text_enc",
        ),
    ],
)
def test_what_a_pipeline_lacks_is_named_before_a_run_exists(lost, message, published, tmp_path):
    pipe = shutil.copytree(published / "sd3", tmp_path / "sd3")
    for path in pipe.glob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    argv = (*settings(published, tmp_path / "runs"), f"model.path={pipe}")
    refused(command(train.main, *argv), message.replace("{}", str(pipe)))
    assert not (tmp_path / "runs").exists()


def test_the_papers_set_up_is_the_papers():
    cfg = compose_experiment(ROOT / "experiments", "sd3_cnn", [])
    predictor, trainer = cfg["predictor"], cfg["predictor_trainer"]
    assert cfg["reward"]["cost"] == {"name": "discounted", "gamma": 0.97}
    assert (predictor["name"], predictor["init_logits"]) == ("cnn", [2.5, 1.0])
    assert (cfg["predictor_optimizer"]["lr"], cfg["predictor_optimizer"]["schedule"]) == (1e-6, "constant")
    assert (trainer["kl"], trainer["samples"], cfg["sampler"]["max_steps"]) == (0, 4, 28)
    assert (cfg["guidance_scale"], cfg["scheduler"]["shift"]) == (7.0, 3.0)


def test_a_dry_run_tells_sizes_without_weights(published, tmp_path):
    ended = command(train.main, *settings(published, tmp_path / "runs"), "dry_run=true")
    assert ended.status == 0, ended.err
    told = json.loads(ended.out.splitlines()[-1])
    network = SD3Transformer2DModel.from_pretrained(published / "sd3" / "transformer")
    assert told["parameters"] == sum(p.numel() for p in network.parameters())
    assert told["predictor_parameters"] > 0
    assert not (tmp_path / "runs").exists()


def test_the_pipeline_takes_the_predictor_of_a_run(run, published):
    pipe = TPDMPipeline.from_pretrained(published / "sd3", predictor=run)
    assert pipe.settings["max_steps"] == 12
    answer = pipe("a red cat", height=32, width=32, max_sequence_length=16, max_steps=5, output_type="pt")
    assert answer.images.shape == (1, 3, 32, 32)
    assert 1 <= answer.nfe.item() <= 5
