"""`evaluate` with prompts: a tiny Stable Diffusion 3 whose predictor is judged beside fixed schedules."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from PIL import Image

from tests.pipelines import save_pipeline
from tests.reward.published import save_clip, save_image_reward
from tests.runs import command
from tests.test_sd3 import PROMPTS, settings
from tpdm import evaluate, sample, train
from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.sampler.noise import initial_noise

STEPS = (3, 5)
SCHEDULES = ("predictor", "3 steps", "5 steps", "mean NFE", "mean NFE uniform")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    save_pipeline(folder / "sd3")
    save_clip(folder / "clip")
    save_image_reward(folder / "reward")
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    return folder


@pytest.fixture(scope="module")
def run(published, tmp_path_factory):
    """Its steps are Euler's, and its predictor's weights such that images take different numbers of them."""
    runs = tmp_path_factory.mktemp("runs")
    ended = command(
        train.main, *settings(published, runs), "sampler/step=ddim", "predictor_trainer.max_steps=1"
    )
    assert ended.status == 0, ended.err
    config, state = load_artifact(runs / "a" / "predictor")
    shutil.rmtree(runs / "a" / "predictor")
    generator = torch.Generator().manual_seed(1)
    state = {name: x + 0.2 * torch.randn(x.shape, generator=generator) for name, x in state.items()}
    save_artifact(runs / "a" / "predictor", config, state)
    return runs / "a"


def judged(run, published, out, *more):
    asked = (f"prompts={published / 'prompts.jsonl'}", "max_steps=9", f"steps={list(STEPS)}")
    return command(evaluate.main, f"run={run}", *asked, f"out={out}", *more)


@pytest.fixture(scope="module")
def out(run, published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged") / "out"
    ended = judged(run, published, folder, "batch_size=2", "seed=7")
    assert ended.status == 0, ended.err
    assert "predictor" in ended.out
    return folder


def rows(out):
    return list(csv.DictReader((out / "results.csv").open()))


def test_every_schedule_draws_every_image(out):
    table = rows(out)
    assert [(row["schedule"], int(row["image"])) for row in table] == [
        (s, k) for s in SCHEDULES for k in range(4)
    ]
    for row in table:
        times = [float(t) for t in row["times"].split()]
        assert (times[0], times[-1], len(times) - 1) == (1, 0, int(row["nfe"]))
        assert times == sorted(set(times), reverse=True)
        assert (row["prompt"], int(row["seed"])) == (PROMPTS[int(row["image"])], 7 + int(row["image"]))
        assert Image.open(out / row["file"]).size == (32, 32)
    assert len({row["nfe"] for row in table if row["schedule"] == "predictor"}) > 1


def test_a_fixed_schedule_makes_as_many_calls_as_the_predictor(out):
    nfe = {s: [int(row["nfe"]) for row in rows(out) if row["schedule"] == s] for s in SCHEDULES}
    assert sum(nfe["mean NFE"]) == sum(nfe["mean NFE uniform"]) == sum(nfe["predictor"])
    assert max(nfe["mean NFE"]) - min(nfe["mean NFE"]) <= 1
    assert nfe["5 steps"] == [5] * 4


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_the_predictors_images_are_those_that_sample_draws(out, run, tmp_path):
    """Seed 8 is that of the second prompt; an 8-bit image in a frame of 3 pixels."""
    asked = (f"prompt={PROMPTS[1]}", "seeds=8", "grid=1x1", "steps=9", f"out={tmp_path / 'a.png'}")
    assert command(sample.main, f"run={run}", *asked).status == 0
    drawn = pixels(tmp_path / "a.png")
    shown = pixels(out / "predictor" / "00001.png").repeat(4, 0).repeat(4, 1)
    assert np.abs(drawn[4 : 4 + 128, 4 : 4 + 128] - shown).max() <= 1


def test_fixed_steps_are_those_of_diffusers(out, published):
    """Even positions, bent once by SD3's shift, from the noise of the seed; "uniform" is not bent."""
    theirs = StableDiffusion3Pipeline.from_pretrained(
        published / "sd3", scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0)
    )
    first = next(row for row in rows(out) if row["schedule"] == "mean NFE uniform")
    times = [float(t) for t in first["times"].split()]
    assert times == pytest.approx(np.linspace(1, 0, len(times)).tolist())
    u = np.linspace(1, 0, 6)[:-1]
    image = theirs(
        PROMPTS[2], sigmas=(3 * u / (1 + 2 * u)).tolist(), guidance_scale=7.0, max_sequence_length=16,
        latents=initial_noise([9], (4, 8, 8)), height=32, width=32, output_type="pil",
    ).images[0]  # fmt: skip
    apart = {n: np.abs(np.asarray(image) - pixels(out / f"{n}_steps" / "00002.png")) for n in STEPS}
    assert apart[5].max() <= 3
    assert 20 * apart[5].mean() < apart[3].mean()
