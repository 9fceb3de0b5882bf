"""`evaluate` with prompts: a tiny Stable Diffusion 3 whose predictor is judged beside fixed schedules."""

import csv
import json
import shlex
import shutil
from html import unescape
from html.parser import HTMLParser
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from tests.pipelines import save_pipeline
from tests.reward.published import save_clip, save_image_reward
from tests.runs import command, files, refused
from tests.test_sd3 import PROMPTS, settings
from tpdm import evaluate, sample, train
from tpdm.evaluation.records import Records
from tpdm.pipeline import TPDMPipeline
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


def test_an_image_that_is_not_finite_is_named_and_not_kept(run, published, tmp_path):
    ended = judged(run, published, tmp_path / "out", "guidance_scale=1e38")
    assert ended.status == 2
    line = "tpdm: error: image 0 (predictor) is not finite; guidance_scale=1e+38 may be too strong"
    assert ended.err.splitlines()[-1].startswith(line)
    assert not [file for file in files(tmp_path / "out") if str(file).endswith(".png")]


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
    asked = (f"prompt={PROMPTS[1]}", "seeds=8", "grid=1x1", f"out={tmp_path / 'a.png'}")
    sampler = ("sampler=adaptive", "sampler/step=ddim", "sampler.max_steps=9")
    assert command(sample.main, f"run={run}", *asked, *sampler).status == 0
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


def test_rewards_judge_the_images_that_are_kept(out, published):
    """The trained one and the held-out one, which is CLIP's cosine, computed here from the files."""
    clip = CLIPModel.from_pretrained(published / "clip").eval()
    processor = CLIPProcessor.from_pretrained(published / "clip")
    for row in rows(out)[::7]:
        words = {"text": [row["prompt"]], "truncation": True, "padding": True, "return_tensors": "pt"}
        with torch.no_grad():
            both = clip(**processor(images=[Image.open(out / row["file"])], **words))
        expected = 100 * torch.cosine_similarity(both.image_embeds, both.text_embeds).item()
        assert float(row["clip_score"]) == pytest.approx(expected, rel=1e-4)
        assert row["image_reward"]


class Page(HTMLParser):
    """What a page holds, by its tags."""

    def __init__(self, path):
        super().__init__()
        self.tags = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_page_holds_all_and_asks_for_no_other_file(out):
    page = Page(out / "report.html")
    sources = [image["src"] for image in page.of("img")]
    plots = ["schedules.png", "quality_image_reward.png", "quality_clip_score.png"]
    assert len(sources) == len(plots) + 4 * len(SCHEDULES)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not page.of("link")
    assert all("src" not in script for script in page.of("script"))
    assert len(page.of("table")) == 2
    assert len(page.of("tr")) == 1 + len(SCHEDULES) + 1 + 4 * len(SCHEDULES)
    assert all((out / plot).exists() for plot in plots)


def test_the_model_card_tells_the_figures_of_the_run(out, run, published, tmp_path):
    nfe = [int(row["nfe"]) for row in rows(out) if row["schedule"] == "predictor"]
    score = {
        schedule: np.array([float(row["image_reward"]) for row in rows(out) if row["schedule"] == schedule])
        for schedule in SCHEDULES
    }
    pipe = TPDMPipeline.from_pretrained(published / "sd3", predictor=run)
    assert (pipe.figures["prompts"], pipe.figures["mean NFE"]) == (4, np.mean(nfe))
    for name, values in {
        "image_reward": score["predictor"],
        "image_reward, 5 steps": score["5 steps"],
        "image_reward, less that of 5 steps": score["predictor"] - score["5 steps"],
    }.items():
        mean, error = (float(part) for part in pipe.figures[name].split(" +- "))
        assert mean == pytest.approx(values.mean(), rel=1e-3)
        assert error == pytest.approx(values.std(ddof=1) / 2, rel=0.06)
    assert pipe.figures["command"] == json.loads((out / "figures.json").read_text())["figures"]["command"]
    pipe.save_pretrained(tmp_path)
    assert f"| mean NFE | {np.mean(nfe)} |" in (tmp_path / "README.md").read_text()
    assert TPDMPipeline.from_pretrained(tmp_path).figures == pipe.figures


class StoppedError(Exception):
    pass


def test_what_was_drawn_is_not_drawn_again(out, run, published, tmp_path):
    """Stopped inside of the second batch of the second schedule: its first image is there, the others not."""
    kept, count = Records.keep, iter(range(100))

    def keep(self, record, picture):
        if next(count) == 4 + 2 + 1:
            raise StoppedError
        kept(self, record, picture)

    asked = (run, published, tmp_path / "a", "batch_size=2", "seed=7")
    with patch.object(Records, "keep", keep):
        assert judged(*asked).status == 1
    before = files(tmp_path / "a")
    assert not any(name.endswith((".csv", ".html", ".tmp")) for name in before)
    assert sum(name.endswith(".png") for name in before) == 7
    assert judged(*asked).status == 0
    after = files(tmp_path / "a")
    assert all(after[name] == before[name] for name in before)
    for row, expected in zip(rows(tmp_path / "a"), rows(out), strict=True):
        for reward in ("image_reward", "clip_score"):
            assert float(row.pop(reward)) == pytest.approx(float(expected.pop(reward)), abs=0.01)
        assert row == expected
    assert judged(*asked[:-1], "seed=8").err.startswith(
        f"tpdm: error: out={tmp_path / 'a'} was drawn with seed=7, and now seed=8; use another out"
    )
    for key, was, now in (("guidance_scale", "7.0", "3.0"), ("sampler.max_steps", "9", "8")):
        line = f"tpdm: error: out={tmp_path / 'a'} was drawn with {key}={was}, and now {key}={now}; use"
        assert judged(*asked, f"{key.split('.')[-1]}={now}").err.startswith(line)
    assert files(tmp_path / "a") == after


def test_the_command_that_is_kept_does_the_same_again(run, published, tmp_path):
    """Pasted into a shell: it finds every image drawn and every score given, and writes the same."""
    folder, clip = tmp_path / "it's 1, again", published / "clip"
    more = (
        "ema=false", "own_rewards=false", "samples=2", "seed=5", "nfe=null", "steps=[3]", "max_steps=4",
        "reward=weighted", "~reward.terms", "+reward.terms.pick_score=0.5", "guidance_scale=1.5",
        "+reward@reward.scorers.pick_score=pick_score", f"reward.scorers.pick_score.path={clip}",
        f"reward.scorers.pick_score.processor={clip}", "reward@clip=clip_score", f"clip.path={clip}",
    )  # fmt: skip
    prompt = "a red cat, on {the} 'mat'\\"
    asked = (f"run={run}", f"prompt={prompt}", 'out="' + str(folder) + '"')
    ended = command(evaluate.main, *asked, *more)
    assert ended.status == 0, ended.err
    before = files(folder)
    kept = json.loads(before["figures.json"][1])["figures"]["command"]
    assert kept in unescape((folder / "report.html").read_text())
    with patch.object(Records, "keep", side_effect=AssertionError("this was drawn already")):
        again = command(evaluate.main, *shlex.split(kept.removeprefix("python -m tpdm.evaluate ")))
    assert (again.status, again.out) == (0, ended.out)
    assert files(folder).keys() == before.keys()


def test_raw_weights_make_no_figures_of_the_run(run, published, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "figures.json").unlink(missing_ok=True)
    short = ("ema=false", "own_rewards=false", "max_steps=2", "steps=[]")
    ended = judged(tmp_path / "run", published, tmp_path / "a", *short)
    assert ended.status == 0, ended.err
    assert (tmp_path / "a" / "figures.json").exists()
    assert not (tmp_path / "run" / "figures.json").exists()


def test_a_prompt_has_a_folder_in_the_run_and_makes_no_figures(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "figures.json").unlink(missing_ok=True)
    prompt = "a red cat, on {the} <mat>"
    asked = (f"prompt={prompt}", "samples=2", "steps=[]", "own_rewards=false", "max_nfe=2")
    ended = command(evaluate.main, f"run={tmp_path / 'run'}", *asked)
    assert ended.status == 0, ended.err
    [folder] = (tmp_path / "run").glob("prompts_*")
    assert [(row["prompt"], row["seed"]) for row in rows(folder)[:2]] == [(prompt, "0"), (prompt, "1")]
    assert {row["schedule"] for row in rows(folder)} == {"predictor", "mean NFE", "mean NFE uniform"}
    assert {row["nfe"] for row in rows(folder)} == {"2"}
    assert not (tmp_path / "run" / "figures.json").exists()
    page = Page(folder / "report.html")
    assert page.of("img")
    assert not page.of("mat")


def test_a_reward_that_is_asked_for_judges_beside_the_runs_own(run, published, tmp_path):
    clip, other = published / "clip", shutil.copytree(published / "clip", tmp_path / "other")
    more = (
        "reward=pick_score", f"reward.path={clip}", f"reward.processor={clip}",
        "reward@clip=clip_score", f"clip.path={other}", f"clip.processor={clip}",
    )  # fmt: skip
    asked = ("prompt=a cat", "steps=[1]", "max_steps=1", f"out={tmp_path / 'a'}")
    ended = command(evaluate.main, f"run={run}", *asked, *more)
    assert ended.status == 0, ended.err
    for row in rows(tmp_path / "a"):
        assert list(row)[6:-1] == ["image_reward", "clip_score", "pick_score", "clip_score_2"]
        assert row["clip_score_2"] == row["clip_score"] != row["pick_score"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["prompts=empty.jsonl"], "prompts=empty.jsonl has no prompt; write one, or one a line"),
        (["prompts=broken.jsonl"], "broken.jsonl, line 2, is not JSON"),
        (["prompts=numbers.jsonl"], "numbers.jsonl, line 3, is no prompt; write a string"),
        (["prompts=gone.jsonl"], "prompts=gone.jsonl does not exist"),
        (["prompts=."], "prompts=. is a folder; accepted: a file, .txt, .json, .jsonl"),
        (["prompts=good.csv"], "prompts=good.csv is not understood; accepted: .txt, .json, .jsonl"),
        (["prompt=a cat", "prompts=good.jsonl"], "prompt and prompts are given; give one of suite, prompt"),
        (["prompt=a cat", "suite=arena"], "suite and prompt are given; give one of suite, prompt=TEXT and"),
        (["prompt= "], "prompt= has no prompt; write one"),
        (["prompt=a cat", "max_steps=0"], "max_steps=0 (int) is not accepted; accepted: int > 0 or null"),
        (["prompt=a cat", "steps=[4,0]"], "steps"),
        (["prompt=a cat", "samples=0"], "samples=0 (int) is not accepted"),
        (["max_steps=4"], "max_steps=4 is a setting for prompt=TEXT or prompts=FILE, and neither is given"),
        (["seed=3"], "seed=3 is a setting for prompt=TEXT or prompts=FILE, and neither is given"),
        (["samples=2"], "samples=2 is a setting for prompt=TEXT or prompts=FILE, and neither is given"),
        (["steps=[4]"], "steps=[4] is a setting for prompt=TEXT or prompts=FILE, and neither is given"),
        (["own_rewards=false", "suite=arena"], "own_rewards=false is a setting for prompt=TEXT or prompts="),
        (["reward=clip_score"], "reward=clip_score is a setting for prompt=TEXT or prompts=FILE"),
        (["suite=arena", "max_nfe=6"], "max_nfe=6 is no setting for suite=arena; leave it out"),
        (["prompt=a cat", "nfe=6", "max_nfe=5"], "nfe=6 is no mean of at most max_nfe=5 calls"),
        (["suite=arena", "nfe=6"], "nfe=6 is no setting for suite=arena; leave it out"),
        (["out=a"], "out=a is a setting for prompt=TEXT or prompts=FILE"),
        (["prompt=a cat", "seed=4294967295", "samples=2"], "seeds: 4294967296 is outside 0..4294967295"),
        (["prompt=a cat", "out=good.jsonl"], "out=good.jsonl cannot be written (File exists)"),
        (["prompt=a cat", "out=good.jsonl/a"], "out=good.jsonl/a cannot be written (Not a directory)"),
        (["prompt=a cat", "out=."], "out=. holds something else, such as broken.jsonl; use another out"),
        (["prompt=a cat", "reward=pick_score", "reward.path=gone"], "reward.path=gone is no folder here"),
        (["prompt=a cat", "reward@clip=clip_score", "clip.path=gone"], "clip.path=gone is no folder here"),
        (
            [
                "prompt=a cat", "reward=weighted", "~reward.terms", "+reward.terms.clip_score=1",
                "+reward@reward.scorers.clip_score=clip_score", "reward.scorers.clip_score.path=gone",
            ],
            "reward.scorers.clip_score.path=gone is no folder here",
        ),
        (["prompt=a cat", "reward=picks_core"], "reward=picks_core is not known; did you mean pick_score?"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_one_line_and_leaves_nothing(asked, line, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n \n")
    (tmp_path / "broken.jsonl").write_text('"a cat"\n{"prompt": \n')
    (tmp_path / "numbers.jsonl").write_text('"a cat"\n{"text": "a dog"}\n{"prompt": 3}\n')
    for name in ("good.jsonl", "good.csv"):
        (tmp_path / name).write_text('"a cat"\n')
    before = files(tmp_path), files(run)
    refused(command(evaluate.main, f"run={run}", *asked), line)
    after = files(tmp_path), files(run)
    assert [{**folder, ".lock": 0} for folder in after] == [{**folder, ".lock": 0} for folder in before]


def test_a_run_without_prompts_is_refused(copy):
    line = f"run={copy} was trained on labels, not on prompts; leave out prompt and prompts"
    refused(command(evaluate.main, f"run={copy}", "prompt=a three"), line)
