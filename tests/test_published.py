"""Published weights from their file to a picture: what is recognised, drawn with, and refused."""

import argparse
import os
import pickle
import re
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from tests.codec.published import save_clip
from tests.model import official
from tests.runs import command
from tpdm import published, sample
from tpdm.published import Published
from tpdm.registry import build
from tpdm.sampler.noise import initial_noise
from tpdm.types import Text, TextSpec

CPU = torch.device("cpu")
FILES = {"dit": official.dit, "diffit": official.diffit, "tld": official.tld}
HEADS = ("num_heads=2",)


class Exploit:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """drawn(state, *argv) -> how the command ended; its picture and latents lie beside the weights."""
    monkeypatch.chdir(tmp_path)

    def drawn(content, *argv, name="weights.pt", seeds="0-1"):
        keep = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
        keep(content, tmp_path / name)
        return command(sample.main, f"checkpoint={name}", f"seeds={seeds}", "steps=2", *argv)

    return drawn


def latents(path):
    return safetensors.torch.load_file(path)["latents"]


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("which", FILES)
def test_a_file_becomes_a_picture_and_its_latents(which, name, drawn, tmp_path):
    ended = drawn(FILES[which](), *HEADS, name=name)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "weights_dpmpp_2m.png: 2 images, mean NFE 2.00\n"
    assert latents(tmp_path / "weights_dpmpp_2m.safetensors").shape == (2, 4, 8, 8)
    assert Image.open(tmp_path / "weights_dpmpp_2m.png").mode == "RGB"


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_scheduler_is_that_of_the_authors(outputs, tmp_path):
    torch.save(official.dit(outputs=outputs), tmp_path / "a.pt")
    scheduler = Published(tmp_path / "a.pt", CPU, True, 2, None).denoiser.scheduler
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(scheduler.log_table[1:].exp(), (1 - betas).cumprod(0), atol=1e-7, rtol=1e-6)
    assert scheduler.predicts == ("eps_and_variance" if outputs == 2 else "eps")
    torch.save(official.tld(), tmp_path / "b.pt")
    straight = Published(tmp_path / "b.pt", CPU, True, None, None).denoiser.scheduler
    assert straight.predicts == "x0"


def test_guidance_is_the_networks_own_answers_combined_on_three_channels_or_on_all(drawn, tmp_path):
    """One DDIM step from the noise: x0 of the guided eps, the conditional half alone elsewhere."""
    state = official.dit(outputs=1)
    how = (*HEADS, "sampler=ddim", "steps=1", "labels=[3]", "guidance_scale=3", "out=a.png")
    drawn(state, *how)
    every = latents(tmp_path / "a.safetensors")
    drawn(state, *how, "guidance=constant", "guidance.channels=3")
    three = latents(tmp_path / "a.safetensors")
    source = Published(tmp_path / "weights.pt", CPU, True, 2, None)
    x, t = initial_noise([0, 1], (4, 8, 8)), torch.ones(2)
    cond, null = (
        source.denoiser.backbone(x, torch.full((2,), 999.0), torch.tensor([[k]] * 2))[0] for k in (3, 10)
    )
    c = source.denoiser.scheduler(t)
    eps = null + 3 * (cond - null)
    x0 = (x - c.sigma[:, None, None, None] * eps) / c.alpha[:, None, None, None]
    torch.testing.assert_close(every, x0, atol=0.1, rtol=1e-3)
    assert torch.equal(three[:, :3], every[:, :3])
    alone = (x - c.sigma[:, None, None, None] * cond) / c.alpha[:, None, None, None]
    torch.testing.assert_close(three[:, 3], alone[:, 3], atol=0.1, rtol=1e-3)


def test_labels_are_drawn_by_the_seed_or_given(drawn, tmp_path):
    def first(*argv, seeds="0-1"):
        ended = drawn(official.dit(), *HEADS, "out=a.png", *argv, seeds=seeds)
        assert ended.status == 0, ended.err
        return latents(tmp_path / "a.safetensors")

    assert torch.equal(first(), first())
    torch.testing.assert_close(first()[1:], first(seeds="1"), atol=1e-4, rtol=1e-4)
    both = first("labels=[[4],[7]]")
    assert torch.equal(both, first("labels=[4,7]"))
    torch.testing.assert_close(both[0], first("labels=[4]")[0])
    assert not torch.allclose(both[1], first("labels=[4]")[1])


def test_the_ancestral_sampler_takes_the_published_number_of_entries(drawn, tmp_path):
    ended = drawn(official.dit(), *HEADS, "sampler=ddpm", "sampler/grid=respaced", "steps=25", "out=a.png")
    assert ended.out == "a.png: 2 images, mean NFE 25.00\n"
    assert latents(tmp_path / "a.safetensors").isfinite().all()


def test_averaged_weights_come_first(drawn, tmp_path):
    files = {"ema": official.dit(), "model": official.dit(outputs=1), "args": argparse.Namespace(lr=1e-4)}
    assert drawn(files, *HEADS, "out=a.png").status == 0
    assert drawn(files["ema"], *HEADS, "out=b.png").status == 0
    assert torch.equal(latents(tmp_path / "a.safetensors"), latents(tmp_path / "b.safetensors"))
    assert drawn(files, *HEADS, "ema=false", "out=b.png").status == 0
    assert not torch.equal(latents(tmp_path / "a.safetensors"), latents(tmp_path / "b.safetensors"))


def test_heads_are_known_for_published_widths(tmp_path):
    torch.save(official.dit(width=384), tmp_path / "s.pt")
    assert (
        Published(tmp_path / "s.pt", CPU, True, None, None).denoiser.backbone.blocks[0].attention.num_heads
        == 6
    )
    torch.save(official.dit(), tmp_path / "s.pt")
    with pytest.raises(
        ValueError, match=r"checkpoint=.*s.pt: no DiT of width 32 is published; give its num_heads="
    ):
        Published(tmp_path / "s.pt", CPU, True, None, None)


def without(state, name):
    return {key: x for key, x in state.items() if key != name}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"weight": torch.zeros(2)}, "its names are those of no model known here: DiT"),
        ({}, "its names are those of no model known here"),
        ({"a": 3}, "it is no state dict of tensors"),
        ([1, 2], "it is no state dict of tensors"),
        (without(official.dit(), "blocks.1.attn.qkv.bias"), "weights lack blocks.1.attn.qkv.bias"),
        (official.dit() | {"more": torch.zeros(1)}, "the official weights hold more, which"),
        (official.dit() | {"pos_embed": torch.zeros(1, 15, 32)}, "15 positions, which make no square"),
        ({"model": official.dit()}, "it holds none of the weights ema, model_ema; try ema=false"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_of_something_else_is_refused_in_one_line(content, complaint, drawn, tmp_path):
    ended = drawn(content, *HEADS)
    assert (ended.status, ended.out) == (2, "")
    assert re.match(rf"tpdm: error: checkpoint=weights.pt: .*{re.escape(complaint)}", ended.err)
    assert ended.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize("content", [b"hello", b"I", b"a page of text\n", b"\x80\x02h\x07."])
def test_bytes_of_something_else_are_told_as_such(content, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"checkpoint=.*a\.pt: not loaded, as only a file of weights alone is"
    ):
        Published(tmp_path / "a.pt", CPU, True, None, None)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_pipe_is_not_waited_for(suffix, tmp_path):
    os.mkfifo(tmp_path / f"a.{suffix}")
    with pytest.raises(ValueError, match=rf"checkpoint=.*a\.{suffix}: it is no file"):
        Published(tmp_path / f"a.{suffix}", CPU, True, None, None)


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_that_would_run_code_is_not_loaded(protocol, drawn, tmp_path):
    target = tmp_path / "exploited"
    content = official.dit() | {"more": Exploit(target)}
    torch.save(content, tmp_path / "evil.pt", pickle_protocol=2)
    if protocol == 0:
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(Exploit(target), protocol=0))
    ended = command(sample.main, "checkpoint=evil.pt", "seeds=0")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(
        "tpdm: error: checkpoint=evil.pt: not loaded, as only a file of weights alone is"
    )
    assert ended.err.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors"])
def test_a_file_cut_short_is_refused(name, drawn, tmp_path):
    drawn(official.dit(), *HEADS, name=name)
    whole = (tmp_path / name).read_bytes()
    for size in (0, 5, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:size])
        ended = command(sample.main, f"checkpoint={name}", "seeds=0")
        assert ended.status == 2
        assert ended.err.startswith(f"tpdm: error: checkpoint={name}: ")
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "run is missing; give it as run=VALUE, or checkpoint=FILE"),
        (["run=a", "checkpoint=b.pt"], "run and checkpoint exclude each other"),
        (
            ["run=a", "codec=identity"],
            "codec is a setting for checkpoint=FILE or model=sd3; run=FOLDER has its own",
        ),
        (["checkpoint=nothing.pt"], "[Errno 2] No such file or directory: 'nothing.pt'"),
        (["checkpoint=nothing.safetensors"], "No such file or directory: nothing.safetensors"),
    ],
)
def test_one_source_is_needed(argv, complaint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ended = command(sample.main, *argv)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"tpdm: error: {complaint}")
    assert ended.err.count("\n") == 1


def test_a_checkpoint_has_no_predictor_and_captions_are_no_labels(drawn):
    assert "choose a fixed sampler" in drawn(official.dit(), *HEADS, "sampler=adaptive", "steps=null").err
    assert "labels are given, but this checkpoint reads captions" in drawn(official.tld(), "labels=[1]").err
    assert "labels: '10' does not exist" in drawn(official.dit(), *HEADS, "labels=[10]").err


def test_a_checkpoint_is_drawn_from_at_a_budget(capped, tmp_path):
    torch.save(official.dit(), tmp_path / "s.pt")
    opened = Published(tmp_path / "s.pt", CPU, True, 2, None)
    assert opened.sampler(capped, None, nfe=3.0, cost=None, max_nfe=4).budget == (3.0, None, 4)


class Spelling:
    """A text encoder that pools the letters of a caption."""

    def __init__(self, width):
        self.spec = TextSpec(width, width, 1)

    def __call__(self, captions):
        pooled = torch.tensor(
            [[caption.count(letter) for letter in "aeiouy"] for caption in captions]
        ).float()
        return Text(pooled, pooled[:, None], torch.ones(len(captions), 1, dtype=torch.bool))


def test_a_prompt_is_what_the_text_encoder_makes_of_it(drawn, tmp_path, monkeypatch):
    text = ("codec=identity", "codec/text=clip", "out=a.png")

    def speaks(width):
        made = {"codec/text": lambda cfg, **facts: Spelling(width)}
        monkeypatch.setattr(
            published, "build", lambda group, *a, **f: made.get(group, partial(build, group))(*a, **f)
        )

    def first(*argv):
        ended = drawn(official.tld(), *text, *argv)
        assert ended.status == 0, ended.err
        return latents(tmp_path / "a.safetensors")

    speaks(official.TEXT)
    owl, none = first("prompt=an owl"), first()
    assert torch.equal(owl, first("prompts=[an owl,an owl]"))
    assert not torch.allclose(owl, first("prompt=eve"))
    assert not torch.allclose(owl, none)
    assert drawn(official.tld(), "prompt=an owl").err.count("add codec=sd_vae codec/text=clip") == 1
    assert "but this checkpoint reads labels" in drawn(official.dit(), *HEADS, *text).err
    speaks(official.TEXT + 1)
    assert "reads captions of 6 numbers, codec.text gives 7" in drawn(official.tld(), *text).err


def test_a_published_clip_encodes_the_prompt(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(official, "TEXT", 12)  # numbers of the saved projection
    save_clip(tmp_path / "clip")
    text = ("codec=identity", "codec/text=clip", "out=a.png")

    def first(*argv):
        ended = drawn(official.tld(), *text, "codec.text.path=clip", *argv)
        assert ended.status == 0, ended.err
        return latents(tmp_path / "a.safetensors")

    owl = first("prompt=an owl")
    assert torch.equal(owl, first("prompts=[an owl,an owl]"))
    assert not torch.allclose(owl, first("prompt=eve"))
    with pytest.warns(UserWarning, match=r"'an owl in a tree' is longer than 10 tokens; cut off: 'tree'"):
        first("prompt=an owl in a tree")
    ended = drawn(official.tld(), *text, "codec.text.path=gone", "prompt=an owl")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "codec.text.path=gone is no folder here" in ended.err
    assert "hf download" in ended.err


def test_a_codec_decodes_the_latents(drawn, tmp_path):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    vae.save_pretrained(tmp_path / "vae")
    codec = ("codec=sd_vae", "codec.path=vae")
    ended = drawn(official.dit(), *HEADS, *codec, "out=a.png", "seeds=0")
    assert (ended.status, ended.err) == (0, "")
    assert not (tmp_path / "a.safetensors").exists()
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.std() > 1
    drawn(official.dit(), *HEADS, "out=b.png", "seeds=0")
    with torch.no_grad():
        decoded = vae.eval().decode(latents(tmp_path / "b.safetensors") / 0.18215).sample
    assert decoded.shape == (1, 3, 16, 16)
    shown = decoded[0].clamp(-1, 1).add(1).mul(127.5).round().permute(1, 2, 0).numpy()
    scale = 6
    tile = picture[scale : scale + 16 * scale : scale, scale : scale + 16 * scale : scale].astype(float)
    assert np.abs(tile - shown).max() <= 1
    wrong = drawn(official.dit(), *HEADS, "codec=kl_vae", "codec.latent_channels=3")
    assert wrong.status == 2
