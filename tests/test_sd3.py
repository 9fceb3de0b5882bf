"""A Time Predictor on a tiny Stable Diffusion 3 from a folder in the published layout, by the commands."""

import json
import shutil

import pytest
from diffusers import SD3Transformer2DModel

from tests.pipelines import save_pipeline
from tests.reward.published import save_clip, save_image_reward
from tests.runs import LOOPS, PREDICTOR, command, files
from tests.test_docs import ROOT, compose_experiment
from tpdm import sample, train
from tpdm.pipeline import TPDMPipeline
from tpdm.runtime.artifact import load_artifact

PROMPTS = ["a red cat", "the dog on the mat", "sunset over mountains", "a blue dog"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    save_pipeline(folder / "sd3")
    save_clip(folder / "clip")
    save_image_reward(folder / "reward")
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    return folder


SMALL = [s for s in (*PREDICTOR, *LOOPS) if not s.startswith(("evaluation.", "baseline"))]


def settings(published, runs, *more):
    clip, judge = published / "clip", published / "reward"
    return (
        "model=sd3", f"model.path={published / 'sd3'}", "model.dtype=float32", "codec.text.max_tokens=16",
        "data=prompts", f"data.path={published / 'prompts.jsonl'}", "data.size=32",
        "reward=image_reward", f"reward.path={judge}", f"reward.tokenizer={judge}",
        "+reward@held_out=clip_score", f"held_out.path={clip}", f"held_out.processor={clip}",
        "predictor=vit", *SMALL, "baseline=null", "predictor_trainer.max_steps=2",
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
        sample.main, f"run={run}", "prompt=a red cat", "seeds=0-1", "grid=1x2", f"out={out}", "steps=4"
    )
    assert ended.status == 0, ended.err
    assert out.exists()


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
        (["model.path=nowhere"], "codec.path=nowhere is no folder here"),
        (["reward.path=nowhere"], "reward.path=nowhere is no folder here"),
        (["data.size=36"], "data.size makes latents of 9x9"),
    ],
)
def test_what_does_not_fit_is_told_before_a_run_exists(change, message, published, tmp_path):
    ended = command(train.main, *settings(published, tmp_path / "runs"), *change)
    assert ended.status == 2
    assert message in ended.err
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
