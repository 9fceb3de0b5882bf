"""A codec trained, killed and resumed; then a denoiser, its predictor and samples in its latents."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs import LOOPS, MODEL, PREDICTOR, at, command, files, forked, last_checkpoint, same
from tests.test_prepare import LATENTS
from tpdm import evaluate, prepare, sample, train
from tpdm.evaluation.reconstruction import Reconstructions, psnr
from tpdm.registry import build
from tpdm.runtime.artifact import load_artifact, save_artifact

SIZES = ("codec=kl_vae", "codec.base_width=8", "codec.multipliers=[1,2]", "codec.latent_channels=2")
STEPS, SAVE_EVERY = 6, 2
TINY = (
    "stage=codec", *SIZES, f"codec_trainer.max_steps={STEPS}", f"codec_trainer.save_every={SAVE_EVERY}",
    "codec_trainer.batch_size=4", "codec_trainer.held_out=10", "codec_trainer.measured=40",
    "codec_trainer.preview_every=3", "codec_trainer.report_every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of RGB images, of 16x16."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.RandomState(0)
    for k in range(24):
        place = folder / ("odd" if k % 2 else "even") / f"{k}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(random.randint(256, size=(16, 16, 3), dtype=np.uint8)).save(place)
    return (
        "data=folder", f"data.path={folder}", "data.size=16", "data.workers=0", "data.test_fraction=0.5",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """The run of a codec."""
    runs = tmp_path_factory.mktemp("codec")
    ended = command(train.main, *TINY, *images, f"runs={runs}", "run_name=a")
    assert ended.status == 0, ended.err
    assert "PSNR" in ended.out
    return runs / "a"


def kl_vae(run):
    path = str(run / "codec")
    sizes = {"latent_channels": 2, "base_width": 8, "multipliers": [1, 2], "depth": 1, "batch_size": 64}
    return build("codec", {"name": "kl_vae", "path": path, **sizes})


def data(images, split):
    cfg = {
        "name": "folder", "path": images[1].partition("=")[2], "labels": "auto", "num_classes": None,
        "size": 16, "channels": 3, "flip": False, "test_fraction": 0.5, "workers": 0, "reshard": False,
        "max_skipped": 0.01,
    }  # fmt: skip
    return build("data", cfg, split=split)


def test_the_psnr_is_that_of_the_codec_that_is_left(trained, images):
    x, _ = data(images, "test").batch(10, torch.Generator().manual_seed(0))
    codec = kl_vae(trained)
    error = (codec.decode(codec.encode(x)).clamp(-1, 1).double() - x).square().mean().item()
    told = json.loads((trained / "summary.json").read_text())["psnr"]
    assert told == pytest.approx(20 * np.log10(2) - 10 * np.log10(error), abs=1e-4)
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [line["step"] for line in lines if "psnr" in line] == [2, 5]
    assert lines[-1]["psnr"] == pytest.approx(told)
    tags = EventAccumulator(str(trained / "tensorboard" / "codec")).Reload().Tags()
    assert {"loss", "distance", "kl", "psnr", "lr"} <= set(tags["scalars"])
    assert tags["images"] == ["reconstructions"]


def test_psnr_is_the_formula():
    x = torch.zeros(3, 1, 4, 4)
    assert psnr(x, x + 0.02) == pytest.approx(40)  # a hundredth of the peak
    assert psnr(x, x + 2) == pytest.approx(0)


def test_latents_of_training_images_have_unit_variance(trained, images):
    seen = data(images, "train")
    z = kl_vae(trained).encode(seen.load(seen.rows, np.zeros(len(seen), bool))[0])
    assert z.mean((0, 2, 3)).abs().max() < 0.3  # it was measured on a draw from these
    assert (z.std((0, 2, 3)) - 1).abs().max() < 0.2


def test_a_row_of_images_stands_above_the_row_of_their_reconstructions(trained, tmp_path):
    network = kl_vae(trained).scaled.network
    x = torch.rand(10, 3, 16, 16) * 2 - 1
    picture, _ = Reconstructions(tmp_path / "p", network, x, 4)(0, network.state_dict())
    tile = 6 * 16
    shown = np.asarray(picture)[6 : 6 + tile : 6, 6 : 6 + tile : 6]
    np.testing.assert_allclose(shown, ((x[0] + 1) * 127.5).permute(1, 2, 0), atol=0.51)
    again = np.asarray(picture)[12 + tile : 12 + 2 * tile : 6, 6 : 6 + tile : 6]
    codec = kl_vae(trained)
    back = codec.decode(codec.encode(x[:1]))[0].clamp(-1, 1)
    np.testing.assert_allclose(again, ((back + 1) * 127.5).permute(1, 2, 0), atol=0.52)


def test_a_killed_codec_goes_on_bit_for_bit(trained, images, tmp_path):
    def start():
        return command(train.main, *TINY, *images, f"runs={tmp_path}", "run_name=a")

    def killed():
        with at("codec", SAVE_EVERY + 1, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            start()

    assert forked(killed) == -signal.SIGKILL
    assert not (tmp_path / "a" / "codec").exists()
    assert last_checkpoint(tmp_path / "a", "codec")["step"] == SAVE_EVERY
    assert start().status == 0
    assert same(last_checkpoint(tmp_path / "a", "codec"), last_checkpoint(trained, "codec"))
    assert same(load_artifact(tmp_path / "a" / "codec"), load_artifact(trained / "codec"))
    assert (tmp_path / "a" / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()
    before = files(tmp_path / "a" / "codec")
    assert "finished already" in start().out
    assert files(tmp_path / "a" / "codec") == before


@pytest.fixture(scope="module")
def latent(trained, images):
    """What a denoiser on the codec's latents is trained with."""
    path = f"codec.path={trained / 'codec'}"
    return (
        *MODEL,
        *PREDICTOR,
        *LOOPS,
        *images,
        *SIZES,
        path,
        "model.patch_size=4",
        "evaluation.num_samples=4",
    )


@pytest.fixture(scope="module")
def denoised(latent, tmp_path_factory):
    """A finished run on the latents, with a predictor."""
    runs = tmp_path_factory.mktemp("latent")
    ended = command(train.main, *latent, "trainer.max_steps=2", f"runs={runs}", "run_name=a", "baseline=null")
    assert ended.status == 0, ended.err
    assert "all images: MSE" in ended.out
    return runs / "a"


def test_a_denoiser_and_its_predictor_work_in_the_latents(denoised, tmp_path):
    assert not (denoised / "classifier").exists()
    rows = json.loads((denoised / "summary.json").read_text())["tables"]["all images"]
    assert rows[0].keys() == {"name", "nfe", "nfe_std", "mse", "images_per_second"}
    assert rows[0]["name"] == "predictor"
    assert Image.open(denoised / "samples.png").convert("HSV").getextrema()[1][1] > 0  # there is colour
    ended = command(sample.main, f"run={denoised}", "seeds=0-1", "labels=[odd]", f"out={tmp_path / 'a.png'}")
    assert ended.status == 0, ended.err
    assert command(evaluate.main, f"run={denoised}").status == 0


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_denoiser_alone_on_images_runs_through(choice, images, tmp_path):
    argv = (*MODEL, *LOOPS, *images, "predictor=none", "trainer.max_steps=1", f"evaluation={choice}")
    argv = [word for word in argv if choice == "auto" or not word.startswith("evaluation.")]
    ended = command(
        train.main, *argv, f"runs={tmp_path}", "run_name=a", "sampler=euler", "sampler.num_steps=2"
    )
    assert ended.status == 0, ended.err
    assert ("tables" in json.loads((tmp_path / "a" / "summary.json").read_text())) == (choice == "auto")
    ended = command(sample.main, f"run={tmp_path / 'a'}", "seeds=0", "grid=1x1")
    assert ended.status == 0, ended.err
    assert command(evaluate.main, f"run={tmp_path / 'a'}").status == (0 if choice == "auto" else 2)


def test_latents_of_another_codec_are_refused(denoised, latent, images, tmp_path):
    other = (*TINY, *images, f"runs={tmp_path}", "run_name=other", "seed=1", "codec_trainer.max_steps=1")
    assert command(train.main, *other).status == 0
    theirs = f"codec.path={tmp_path / 'other' / 'codec'}"
    ended = command(
        train.main, *latent, theirs, f"denoiser={denoised / 'denoiser'}", f"runs={tmp_path}", "run_name=b"
    )
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "was trained on latents of another codec, of sha256 " in ended.err
    assert not (tmp_path / "b").exists()


def test_prepared_latents_know_their_codec(trained, images, tmp_path):
    out, path = tmp_path / "shards", f"codec.path={trained / 'codec'}"
    missing = command(prepare.main, *images, *SIZES, f"out={out}")
    assert (missing.status, "codec.path is missing" in missing.err) == (2, True)
    assert not out.exists()
    ended = command(prepare.main, *images, *SIZES, path, f"out={out}", "precision=float16")
    assert ended.status == 0, ended.err
    stored = build("data", {**LATENTS, "path": str(out)}, split="train")
    x, _ = (seen := data(images, "train")).load(seen.rows, np.zeros(len(seen), bool))
    z, _ = stored.load(stored.rows, np.zeros(len(stored), bool))
    torch.testing.assert_close(z, kl_vae(trained).encode(x), atol=2e-3, rtol=2e-3)

    argv = ("data=latents", f"data.path={out}", f"runs={tmp_path}", "predictor=none", "dry_run=true")
    model = ("model.width=16", "model.num_heads=2", "model.patch_size=4")
    assert command(train.main, *model, *argv, *SIZES, path).status == 0
    ended = command(train.main, *model, *argv)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "the latents of data.path were made by codec {" in ended.err
    assert f"'path': '{trained / 'codec'}'" in ended.err


def test_a_codec_that_was_replaced_is_noticed(denoised, trained, images, tmp_path):
    codec = trained / "codec"
    kept = shutil.copytree(codec, tmp_path / "kept")
    try:
        shutil.rmtree(codec)
        ended = command(sample.main, f"run={denoised}", "seeds=0")
        assert (ended.status, f"codec.path={codec} does not exist; " in ended.err) == (2, True)
        config, state = load_artifact(kept)
        again = {**state, "scale": state["scale"] * 1.01}
        save_artifact(codec, config, again)
        ended = command(sample.main, f"run={denoised}", "seeds=0")
        assert (ended.status, "on latents of another codec" in ended.err) == (2, True)
    finally:
        shutil.rmtree(codec, ignore_errors=True)
        shutil.copytree(kept, codec)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["codec=identity"], "codec=identity has nothing to train; stage=codec trains codec=kl_vae"),
        (
            ["codec=kl_vae", "data=digits", "codec.multipliers=[1,1,1,1,1]"],
            "16x16 pixels, which do not divide",
        ),
        (
            ["codec=kl_vae", "denoiser=a"],
            "denoiser=a is for a whole run; leave it out, or leave out stage=codec",
        ),
        (["codec=kl_vae", "codec.path=here"], "codec.path=here does not exist; "),
        (["codec=kl_vae", "codec_trainer=denoiser"], "codec_trainer="),
        (["codec=kl_vae", "trainer@codec_trainer=predictor"], "accepted here: what trains a codec"),
    ],
)
def test_what_cannot_train_a_codec_leaves_no_run(argv, line, tmp_path):
    ended = command(train.main, "stage=codec", *argv, f"runs={tmp_path}")
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert line in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_codec_without_weights_trains_no_denoiser_but_has_sizes(tmp_path):
    argv = (*MODEL, *PREDICTOR, *SIZES, f"runs={tmp_path}")
    ended = command(train.main, *argv)
    assert (ended.status, "codec.path is missing" in ended.err) == (2, True)
    assert command(train.main, *argv, "dry_run=true").status == 0
    ended = command(train.main, *argv, "dry_run=true", "model.patch_size=3")
    assert "model.patch_size=3 does not divide the 8x8" in ended.err
    assert "codec=kl_vae makes latents of that size" in ended.err
    assert list(tmp_path.iterdir()) == []
