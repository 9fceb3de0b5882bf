"""A pipeline in the published layout, drawn from by the command: as the reference does, or as is asked."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from tests.pipelines import SD35, save_pipeline
from tests.predictor.test_official import published as official_weights
from tests.reference import reference_draws
from tests.runs import command
from tests.test_pipeline import ASKED, save_predictor
from tests.test_published import Exploit
from tpdm import sample
from tpdm.pipeline import TPDMPipeline
from tpdm.published_pipeline import PublishedPipeline
from tpdm.runtime.plots import sample_grid
from tpdm.sampler.noise import initial_noise
from tpdm.types import FeatureSpec

SMALL = (
    "model.dtype=float32",
    "codec.text.dtype=float32",
    "codec.text.max_tokens=16",
    "seeds=0-3",
    "grid=2x2",
)
PROMPT = "a red cat"


def slow():
    """A published predictor whose walks take five calls and more."""
    state = official_weights(width=16)
    return state | {"fc2.bias": state["fc2.bias"] + torch.tensor([2.5, -1.0])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("published")
    save_pipeline(base / "sd3")
    save_predictor(base / "predictor")
    for name, state in (("official", slow()), ("narrow", official_weights())):
        torch.save({f"time_predictor.{key}": x for key, x in state.items()}, base / f"{name}.pt")
    return base


def drawn(folder, *argv):
    """What the command said; its picture is a.png in the folder where one stands."""
    return command(sample.main, "model=sd3", f"model.path={folder / 'sd3'}", *SMALL, "out=a.png", *argv)


def official(folder, name="official"):
    return "predictor=official", f"predictor.path={folder / name}.pt"


def picture(x0, nfe, folder):
    """What lies in a.png where these are the latents."""
    vae = AutoencoderKL.from_pretrained(folder / "sd3" / "vae")
    with torch.no_grad():
        images = vae.decode(x0 / vae.config.scaling_factor + vae.config.shift_factor).sample
    return np.asarray(sample_grid(images, [f"{n} NFE" for n in nfe], columns=2, scale=6)).astype(int)


def seen():
    return np.asarray(Image.open("a.png")).astype(int)


@pytest.mark.parametrize(("name", "steps"), [("sd3", 28), ("sd35_medium", 4)])
def test_the_published_predictor_draws_what_its_reference_draws(name, steps, folder, tmp_path, monkeypatch):
    """These walks end of themselves, below sigma = 0.01; with four steps they are cut off."""
    monkeypatch.chdir(tmp_path)
    base = folder
    if name != "sd3":
        base = tmp_path
        save_pipeline(base / "sd3", **SD35)
    more = ("guidance_scale=7", *(["steps=4"] if steps == 4 else []))
    ended = drawn(base, *official(folder), f"prompt={PROMPT}", f"model={name}", *more)
    assert (ended.status, ended.err) == (0, "")
    noise = initial_noise(range(4), (4, 8, 8))
    x0, nfe = reference_draws(base / "sd3", slow(), PROMPT, noise, max_steps=steps)
    assert len(set(nfe)) > 1 if steps == 28 else nfe == [4] * 4
    expected = picture(x0, nfe, base)
    assert seen().shape == expected.shape
    assert np.abs(seen() - expected).max() <= 1
    assert ended.out == f"a.png: 4 images, mean NFE {sum(nfe) / 4:.2f}\n"
    assert np.ptp(expected.reshape(-1, 3), axis=0).min() > 50  # there is something to see


def test_a_trained_predictor_draws_what_the_pipeline_draws_with_it(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ("sampler=adaptive", "sampler.max_steps=4", f"prompt={PROMPT}")
    ended = drawn(folder, f"predictor_folder={folder / 'predictor'}", *few)
    assert (ended.status, ended.err) == (0, "")
    pipe = TPDMPipeline.from_pretrained(folder / "sd3", predictor=folder / "predictor")
    noise = initial_noise(range(4), (4, 8, 8))
    answer = pipe([PROMPT] * 4, max_steps=4, latents=noise, **ASKED)
    assert np.abs(seen() - picture(answer.images, answer.nfe.tolist(), folder)).max() <= 1


def test_a_fixed_sampler_needs_no_predictor(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = ("sampler=euler", "sampler/grid=shifted", "steps=3", f"prompt={PROMPT}", "export=diffusers")
    ended = drawn(folder, *how, "seeds=0", "grid=1x1")
    assert ended.out.startswith("a.png: 1 images, mean NFE 3.00\n")
    assert np.allclose(json.loads((tmp_path / "a" / "sigmas.json").read_text()), [1, 6 / 7, 3 / 5])


def test_a_sampler_that_needs_no_predictor_may_take_a_budget(capped):
    opened = PublishedPipeline.__new__(PublishedPipeline)
    opened.denoiser = SimpleNamespace(scheduler=None)
    assert opened.sampler(capped, None, nfe=3.0, max_nfe=4).budget == (3.0, None, 4)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["prompt=null"], "prompt is missing; model=sd3 draws what it asks for"),
        (["prompt=null", "labels=[1]"], "prompt is missing; model=sd3 draws what it asks for"),
        (["run=a"], "run and model exclude each other"),
        (["predictor=none"], "model=sd3 draws by one predictor: predictor=official predictor.path=FILE"),
        (["predictor_folder=a"], "model=sd3 draws by one predictor: predictor=official predictor.path=FILE"),
        (["predictor=vit"], "predictor=vit has no weights here; use predictor_folder=FOLDER"),
        (["predictor=none", "predictor_folder=nowhere"], "nowhere is missing"),
        (["predictor=none", "predictor_folder=wide"], "predictor_folder=wide reads FeatureSpec(width=24, "),
        (["predictor.path=nowhere.pt"], "predictor.path=nowhere.pt does not exist"),
        (["predictor.path=narrow.pt"], "predictor.path=narrow.pt reads tokens and time embeddings of widths"),
        (["predictor.path=list.pt"], "predictor.path=list.pt holds no state dict"),
        (["predictor.path=evil.pt"], "predictor.path=evil.pt holds no weights that can be read safely"),
        (["predictor.path=cut.pt"], "predictor.path=cut.pt holds no weights that can be read safely"),
        (["predictor.path=cut.safetensors"], "predictor.path=cut.safetensors holds no weights that can be"),
        (["model=dit"], "model=dit has no weights to draw with; accepted here: model=sd3"),
        (["num_heads=2"], "num_heads is a setting for checkpoint=FILE; model=sd3 has its own"),
    ],
)
def test_what_cannot_be_drawn_from_is_told_in_one_line(argv, complaint, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_predictor(tmp_path / "wide", FeatureSpec(24, 24, None, (4, 4)))
    shutil.copy(folder / "narrow.pt", tmp_path)
    torch.save([1, 2], "list.pt")
    torch.save(official_weights(width=16) | {"more": Exploit(tmp_path / "exploited")}, "evil.pt")
    for name in ("cut.pt", "cut.safetensors"):
        (tmp_path / name).write_bytes((folder / "official.pt").read_bytes()[:999])
    before = set(tmp_path.iterdir())
    weights = () if {"predictor=none", "predictor=vit"} & set(argv) else official(folder)
    where = () if "model=dit" in argv else (f"model.path={folder / 'sd3'}", *SMALL)
    ended = command(sample.main, "model=sd3", *where, *weights, f"prompt={PROMPT}", "out=a.png", *argv)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"tpdm: error: {complaint}"), ended.err
    assert ended.err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before  # no picture, and nothing that a pickle could have left
