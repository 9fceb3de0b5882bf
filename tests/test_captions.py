"""Text to image through the commands: trained, drawn by a prompt, evaluated, and what is refused."""

import csv
import sys

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from tests.codec.published import save_clip, save_t5
from tests.data.pictures import encoded
from tests.runs import LOOPS, PREDICTOR, command
from tpdm import evaluate, sample, train
from tpdm.assembly import Assembly, load_denoiser
from tpdm.cli import entry, quoted
from tpdm.dry_run import sizes_of
from tpdm.finished import FinishedRun
from tpdm.runtime.artifact import load_artifact
from tpdm.sample import Settings
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.reference import reference

CPU = torch.device("cpu")
DATA = ("data=digit_captions", "codec/text=transformer_text", "codec.text.width=16", "codec.text.num_heads=2")
TLD = ("model=tld_small", "model.width=16", "model.depth=1", "model.num_heads=2")
STEP = (
    *(setting for setting in LOOPS if not setting.startswith("evaluation")),
    "predictor=none", "evaluation=none", "trainer.max_steps=2",
)  # fmt: skip
UNET = ("model=unet", "model.base_width=8", "model.multipliers=[1,2]", "model.width=8", "model.num_heads=2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(runs):
    """A denoiser and a predictor that attends to the caption, under guidance."""
    reads = ("predictor.text=mean", "guidance_scale=2", "baseline=null")
    ended = command(train.main, *DATA, *TLD, *PREDICTOR, *LOOPS, *reads, f"runs={runs}", "run_name=tld")
    assert ended.status == 0, ended.err
    assert "accuracy" in ended.out
    return runs / "tld"


@pytest.fixture
def drawn(run, tmp_path):
    """drawn(*argv) -> the picture."""

    def drawn(*argv):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        ended = command(sample.main, f"run={run}", f"out={out}", "seeds=0-1", "grid=1x2", *argv)
        assert (ended.status, ended.err) == (0, "")
        return np.asarray(Image.open(out).convert("L")).astype(int)

    return drawn


@pytest.fixture
def asked(drawn, monkeypatch):
    """asked(*argv) -> the condition that the sampler is given."""
    seen = []
    given = FinishedRun.sample

    def spy(self, sampler, seeds, cond, *args):
        seen.append(cond)
        return given(self, sampler, seeds, cond, *args)

    monkeypatch.setattr(FinishedRun, "sample", spy)

    def asked(*argv):
        drawn(*argv, "sampler=euler", "steps=1")
        return seen[-1].pooled

    return asked


def test_a_prompt_reaches_every_sample_and_another_one_is_another(asked):
    three, one = asked("prompt=a bold three, tilted left"), asked("prompt=a thin one, dark on light")
    assert torch.equal(three[0], three[1])
    assert torch.equal(three, asked("prompt=A BOLD THREE, tilted left"))
    assert not torch.allclose(three, one)


def test_a_prompt_for_each_seed(asked):
    one, nine = asked("prompt=a one"), asked("prompt=a nine, tilted right")
    both = asked("prompts=['a one','a nine, tilted right']")
    torch.testing.assert_close(both, torch.stack([one[0], nine[0]]))


def test_a_predictor_draws_too(drawn):
    assert drawn("prompt=a three").std() > 0


def test_its_predictor_is_judged_by_prompts_too(run, tmp_path):
    """By the distance to where the ODE is taken for it in training."""
    asked = ("prompt=a bold three, tilted left", "samples=2", "max_steps=4", "steps=[2]")
    ended = command(evaluate.main, f"run={run}", *asked, f"out={tmp_path / 'a'}")
    assert ended.status == 0, ended.err
    rows = list(csv.DictReader((tmp_path / "a" / "results.csv").open()))
    assert [row["schedule"] for row in rows] == [
        n for n in ("predictor", "2 steps", "mean NFE") for _ in "01"
    ]

    finished = FinishedRun.open(str(run), CPU, True)
    cond = finished.encoded(["a bold three, tilted left"] * 2)
    sampler = finished.sampler({**finished.cfg["sampler"], "max_steps": 4}, None)
    images, nfe = finished.sample(sampler, [0, 1], cond, 2.0, finished.cfg["guidance"], 2)
    guided = finished.assembly.guided(finished.denoiser, 2.0, finished.cfg["guidance"])
    end = reference(guided, initial_noise([0, 1], finished.assembly.shape), cond, 2)
    expected = -(images - finished.assembly.codec.decode(end)).square().mean((1, 2, 3))
    torch.testing.assert_close(torch.tensor([float(row["trajectory"]) for row in rows[:2]]), expected)
    assert [int(row["nfe"]) for row in rows[:2]] == nfe.tolist()


def test_a_denoiser_loads_without_its_data(run, monkeypatch):
    def gone(*args):
        raise AssertionError("the data are not to be looked at")

    monkeypatch.setattr("tpdm.data.digit_captions.DigitCaptions.__init__", gone)
    assembly, denoiser = load_denoiser(run / "denoiser", CPU, torch.float32)
    text = assembly.encoded(["a bold three"], denoiser.backbone)
    assert text.pooled.shape == (1, 16)
    config, _ = load_artifact(run / "denoiser")
    assert {"three", "bold", "tilted", "light"} <= set(config["facts"]["vocabulary"])


def test_encoding_once_is_encoding_at_every_call(run):
    assembly, denoiser = load_denoiser(run / "denoiser", CPU, torch.float32)
    captions, x, t = ["a bold three", "an eight"], torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.9])
    ids, text = assembly.condition(captions), assembly.encoded(captions, denoiser.backbone)
    assert torch.equal(denoiser(x, t, ids).x0, denoiser(x, t, text).x0)


def test_the_text_encoder_learns_with_the_denoiser(run):
    _, first = load_artifact(run / "denoiser_raw")
    assembly, _ = load_denoiser(run / "denoiser", CPU, torch.float32)
    torch.manual_seed(0)  # the run's seed
    fresh = assembly.backbone().state_dict()
    moved = [name for name in fresh if "encoder" in name and not torch.equal(fresh[name], first[name])]
    assert any("token_embedding" in name for name in moved)
    assert any("self_attn" in name for name in moved)


def test_the_newest_run_is_drawn_from_where_none_is_named(run, runs, tmp_path):
    out = f"out={tmp_path / 'a.png'}"
    ended = command(sample.main, f"runs={runs}", "prompt=a three", "seeds=0", "grid=1x1", out)
    assert ended.status == 0, ended.err
    assert ended.out.startswith(f"run: {run}\n")


def test_a_unet_reads_the_same_captions(runs):
    ended = command(
        train.main, *DATA, *UNET, *LOOPS, "predictor=none", f"runs={runs / 'unet'}", "run_name=a",
        "trainer.max_steps=1", "evaluation=images",
    )  # fmt: skip
    assert ended.status == 0, ended.err


@pytest.mark.parametrize("name", ["clip", "t5"])
def test_a_published_encoder_conditions_a_model_and_runs_follow_each_other(name, tmp_path):
    """The encoder's weights stay where they are; the second command is in the same process."""
    {"clip": save_clip, "t5": save_t5}[name](tmp_path / "weights")
    text = (f"codec/text={name}", f"codec.text.path={tmp_path / 'weights'}")
    cut = () if name == "clip" else ("codec.text.max_tokens=10",)
    argv = ("data=digit_captions", *text, *cut, *TLD, *STEP, f"runs={tmp_path}")
    for run in ("a", "b"):
        with pytest.warns(UserWarning, match=r"is longer than 10 tokens; cut off: '.*'"):
            ended = command(train.main, *argv, f"run_name={run}")
        assert ended.status == 0, ended.err
    _, weights = load_artifact(tmp_path / "a" / "denoiser")
    assert not any("encoder" in key or "text_model" in key for key in weights)
    assert pixels(tmp_path, "prompt=three") != pixels(tmp_path, "prompt=nine")


def test_a_folder_of_captions_teaches_its_words(tmp_path):
    (tmp_path / "images").mkdir()
    for k, caption in enumerate(["a grey cat", "a white dog", "ein Hund", "a cat"]):
        (tmp_path / "images" / f"{k}.png").write_bytes(encoded(60 * k))
        (tmp_path / "images" / f"{k}.txt").write_text(caption)
    data = ("data=folder", f"data.path={tmp_path / 'images'}", "data.size=8", "data.workers=0")
    ended = command(train.main, *data, *DATA[1:], *TLD, *STEP, f"runs={tmp_path}", "run_name=a")
    assert ended.status == 0, ended.err
    config, _ = load_artifact(tmp_path / "a" / "denoiser")
    assert {"grey", "cat", "white", "dog", "hund"} <= set(config["facts"]["vocabulary"])
    assert pixels(tmp_path, "prompt=a cat") != pixels(tmp_path, "prompt=a white dog")


def pixels(runs, prompt):
    """What the run `a` draws of a prompt."""
    out, how = runs / "out.png", ("sampler=euler", "steps=2", "guidance_scale=30")
    ended = command(sample.main, f"run={runs / 'a'}", prompt, *how, "seeds=0", "grid=1x1", f"out={out}")
    assert ended.status == 0, ended.err
    return out.read_bytes()


def test_sizes_count_the_text_encoder(composed):
    cfg = composed(*DATA, "model=tld_small", "predictor=none")
    assembly = Assembly.of(cfg)
    count = sum(p.numel() for p in assembly.backbone().parameters())
    assert sizes_of(cfg, assembly).denoiser.parameters == count
    assert any("encoder" in name for name, _ in assembly.backbone().named_parameters())


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["data=digit_captions", "model=unet"], "digit_captions has captions, which codec/text=labels does"),
        (["data=digits", "codec/text=transformer_text"], "data=digits has labels, and codec/text=transfor"),
        (["data=digits", "codec/text=clip"], "data=digits has labels, and codec/text=clip encodes"),
        (["data=digits", "codec/text=t5"], "data=digits has labels, and codec/text=t5 encodes captions"),
        ([*DATA[:1], *TLD, "codec/text=clip", "codec.text.path=gone"], "codec.text.path=gone is no folder"),
        ([*DATA[:1], *TLD, "codec/text=t5", "codec.text.path=gone"], "run `hf download OWNER/NAME --local"),
        (["data=digits", "model=tld_small"], "model=tld reads captions, but data gives labels"),
        ([*DATA, "model=dit"], "model reads labels, but data gives captions"),
        ([*DATA, *TLD, "codec.text.num_heads=3"], "codec.text.width=16 does not divide over codec"),
        ([*DATA, *TLD, "codec.text.max_tokens=2"], "codec.text.max_tokens=2 has no room for a word"),
        ([*DATA, *TLD, "codec.text.depht=2"], "codec.text.depht is no key"),
        ([*DATA, *TLD, "reward=classifier"], "reward=classifier reads digits"),
        ([*DATA, *TLD, "guidance_scale=2", "model.caption_dropout=0"], "needs a null caption, and model."),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_a_run(argv, line, tmp_path):
    ended = command(train.main, *argv, "predictor=none", f"runs={tmp_path / 'runs'}")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert line in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["labels=[3]"], "labels are given, but this run was trained with captions; give prompt"),
        (["prompt=a", "prompts=[a,b]"], "prompt and prompts are given; give one of"),
        (["prompts=[a,b,c]"], "prompts has 3, but seeds asks for 2 images"),
    ],
)
def test_a_prompt_that_cannot_be_drawn_is_refused(argv, line, run, tmp_path):
    ended = command(sample.main, f"run={run}", "seeds=0-1", "grid=1x2", f"out={tmp_path / 'a.png'}", *argv)
    assert (ended.status, line in ended.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_labels_refuses_a_prompt(finished, tmp_path):
    ended = command(sample.main, f"run={finished}", "prompt=a three", f"out={tmp_path / 'a.png'}")
    assert (ended.status, "prompt is given, but what is drawn from reads none" in ended.err) == (2, True)


def heard(word, monkeypatch):
    """The prompt as the command's body gets it."""
    seen = []
    monkeypatch.setattr(sys, "argv", ["sample", "run=x", word])
    entry("sample", Settings)(seen.append)()
    return seen[0]["prompt"]


@given(prompt=st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda p: p != "null"))
def test_a_prompt_comes_through_word_for_word(prompt):
    override = OverridesParser.create().parse_override(quoted(f"prompt={prompt}"))
    assert not override.is_sweep_override()
    assert OmegaConf.create({"prompt": override.value()}).prompt == prompt


@pytest.mark.parametrize(
    "prompt", ["a, b", "${run}", "???", "[1,2]", "a=b", "'", '"', "\\", "{a: 1}", "12", ""]
)
def test_no_grammar_is_read_into_a_prompt(prompt, monkeypatch):
    assert heard(f"prompt={prompt}", monkeypatch) == prompt
