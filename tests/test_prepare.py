"""What prepare writes is what the codec said, once and whole; stopped and started, shared and damaged."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.data.pictures import encoded
from tests.data.test_folder import SETTINGS as FOLDER
from tests.runs import ended, forked, started
from tpdm import assembly, preparing
from tpdm.codec.identity import IdentityCodec
from tpdm.codec.tokens import Tokens
from tpdm.codec.transformer_text import MARKS, word_tokenizer
from tpdm.data import shards
from tpdm.data.damage import TooManySkippedError
from tpdm.data.loader import Loader
from tpdm.data.shards import Manifest
from tpdm.preparing import prepare, share
from tpdm.registry import build
from tpdm.types import Text, TextSpec

LATENTS = {
    "name": "latents", "test_fraction": 0.0, "workers": 0, "reshard": False, "max_skipped": 0.01,
}  # fmt: skip


@pytest.fixture
def images(tmp_path):
    """20 shades in two classes."""
    folder = tmp_path / "images"
    for k in range(20):
        place = folder / ("odd" if k % 2 else "even") / f"{k:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(10 * k))
    return folder


def config(images, out, **changes):
    return {
        "data": {**FOLDER, "path": str(images)}, "codec": {"name": "identity"}, "out": str(out),
        "precision": "uint8", "shard_size": 8, "batch_size": 3, "part": None, "parts": None, "seed": 0,
        "device": "cpu", "debug": False, **changes,
    }  # fmt: skip


def met(out):
    """{shade: label} of all that was written."""
    data = build("data", {**LATENTS, "path": str(out)}, split="train")
    x0, label = next(Loader(data, len(data), 0))
    return {round((float(x.mean()) + 1) * 127.5): int(k) for x, k in zip(x0, label[:, 0], strict=True)}


WHOLE = {10 * k: k % 2 for k in range(20)}


@pytest.mark.parametrize("precision", ["uint8", "float16"])
def test_every_image_is_written_once_with_its_label(images, tmp_path, capsys, precision):
    prepare(config(images, tmp_path / "out", precision=precision))
    assert met(tmp_path / "out") == WHOLE
    assert "20 latents in 3 shards" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["00000.tar", "00001.tar", "00002.tar", "manifest.json"]
    data = build("data", {**LATENTS, "path": str(tmp_path / "out")}, split="train")
    assert data.encoded_by == {"name": "identity", "sha256": IdentityCodec.sha256, "text_sha256": None}
    assert data.parse_labels(["odd"]).tolist() == [[1]]


def test_finished_shards_are_kept_and_the_rest_is_made(images, tmp_path):
    out = tmp_path / "out"
    prepare(config(images, out))
    first = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    stamp = os.stat(out / "00000.tar").st_mtime_ns
    (out / "00001.tar").unlink()
    (out / "manifest.json").unlink()
    (out / ".00001.tar.1.tmp").write_bytes(b"cut short by a kill")
    prepare(config(images, out))
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == first
    assert os.stat(out / "00000.tar").st_mtime_ns == stamp
    assert not list(out.glob(".*"))
    assert met(out) == WHOLE


def test_processes_share_the_shards_and_the_last_writes_the_manifest(images, tmp_path):
    out = tmp_path / "out"
    prepare(config(images, out, part=1, parts=2))
    assert sorted(path.name for path in out.iterdir()) == ["00001.tar"]
    prepare(config(images, out, part=0, parts=2))
    assert met(out) == WHOLE


def test_other_settings_do_not_mix(images, tmp_path):
    prepare(config(images, tmp_path / "out"))
    with pytest.raises(
        ValueError, match=r"00000\.tar was made with precision=uint8, not float16; choose another"
    ):
        prepare(config(images, tmp_path / "out", precision="float16"))


def test_damaged_images_are_left_out_and_listed(images, tmp_path, capsys):
    (images / "even" / "04.png").write_bytes(b"")
    prepare(config(images, tmp_path / "out"))
    assert met(tmp_path / "out") == {shade: label for shade, label in WHOLE.items() if shade != 40}
    listed = json.loads((tmp_path / "out" / "skipped.jsonl").read_text())
    assert (listed["key"], listed["reason"]) == ("even/04.png", "the image is empty")
    assert "1 samples left out" in capsys.readouterr().out


@pytest.mark.parametrize("there", [True, False])
def test_data_that_are_refused_leave_what_was_there(images, tmp_path, there):
    """Three images are damaged; a shard that is whole stays, for a larger max_skipped to go on from."""
    out = tmp_path / "out"
    if there:
        out.mkdir()
    for name in ("00", "04", "08"):
        (images / "even" / f"{name}.png").write_bytes(b"")
    refused = {**FOLDER, "path": str(images), "max_skipped": 0.1}
    with pytest.raises(TooManySkippedError):
        prepare(config(images, out, data=refused))
    assert list(tmp_path.rglob("*.jsonl")) == []
    assert out.exists() == there
    prepare(config(images, out, part=1, parts=2))
    with pytest.raises(TooManySkippedError):
        prepare(config(images, out, data=refused))
    assert sorted(path.name for path in out.iterdir()) == ["00001.tar", "skipped.jsonl"]


def test_a_full_disk_stops_it_and_leaves_no_half_shard(images, tmp_path):
    """A limit on the size of a file makes the kernel refuse the rest of it, as a full disk does."""
    out = tmp_path / "out"

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        with pytest.raises(OSError, match=r"File too large: .*00000\.tar"):
            prepare(config(images, out))
        os._exit(7)

    assert forked(limited) == 7
    assert list(out.iterdir()) == []


def test_two_processes_at_once_share_the_work_and_leave_one_whole_manifest(images, tmp_path):
    out = tmp_path / "out"
    shares = [config(images, out, part=part, parts=2, shard_size=2) for part in (0, 1)]
    children = [started(lambda share=share: prepare(share)) for share in shares]
    assert [ended(child) for child in children] == [0, 0]
    assert met(out) == WHOLE
    assert len(Manifest.read(out).shards) == 10
    assert not list(out.glob(".*"))


def test_processes_of_torchrun_finish_with_every_shard_and_one_manifest(images, tmp_path):
    out = tmp_path / "out"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "tpdm.prepare"]
    argv = ["data=folder", f"data.path={images}", "data.size=8", "shard_size=4", "device=cpu", f"out={out}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *argv], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(f"prepare {part}/2" in done.stderr for part in (1, 2))
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"0000{k}.tar" for k in range(5)),
        "manifest.json",
    ]
    assert met(out) == WHOLE


def test_a_killed_process_leaves_whole_shards_and_is_gone_on_with(images, tmp_path):
    out = tmp_path / "out"
    cfg = config(images, out, shard_size=4)
    write = shards.add

    def dies(tar, name, content):
        if name == "00002.npy":
            tar.fileobj.write(b"half of it")
            tar.fileobj.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return write(tar, name, content)

    def killed():
        shards.add = dies
        prepare(cfg)

    assert forked(killed) == -signal.SIGKILL
    assert sorted(path.name for path in out.glob("[0-9]*")) == ["00000.tar", "00001.tar"]
    assert len(list(out.glob(".00002.tar.*.tmp"))) == 1
    stamps = {path.name: os.stat(path).st_mtime_ns for path in out.glob("*.tar")}
    prepare(cfg)
    assert {name: os.stat(out / name).st_mtime_ns for name in stamps} == stamps
    assert met(out) == WHOLE
    assert not list(out.glob(".*"))


class Letters(nn.Module):
    """Captions to the numbers of their letters: an encoder whose answers can be read again."""

    spec = TextSpec(pooled_width=2, token_width=1, max_tokens=6)

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    @torch.no_grad()
    def forward(self, captions):
        tokens, mask = torch.zeros(len(captions), 6, 1), torch.zeros(len(captions), 6, dtype=torch.bool)
        for k, caption in enumerate(captions):
            for m, letter in enumerate(caption[:6]):
                tokens[k, m], mask[k, m] = ord(letter) * self.factor, True
        return Text(torch.stack([tokens.sum((1, 2)), tokens.amax((1, 2))], 1), tokens, mask)


def test_captions_are_stored_as_their_encoder_answered_them(images, tmp_path, monkeypatch):
    for path in images.rglob("*.png"):
        path.with_suffix(".txt").write_text(f"n {path.stem}")
    text, out = Letters(), tmp_path / "out"
    monkeypatch.setattr(preparing, "text_codec", lambda cfg, data: text)
    (images / "even" / "02.txt").write_bytes(b"\xff")
    prepare(config(images, out))
    data = build("data", {**LATENTS, "path": str(out)}, split="train")
    assert data.cond == Letters.spec
    x0, cond = next(Loader(data, 19, 0))
    told = text([f"n {round((float(x.mean()) + 1) * 12.75):02d}" for x in x0])
    for name in ("pooled", "tokens", "mask"):
        assert getattr(cond, name).equal(getattr(told, name)), name
    with pytest.raises(ValueError, match=r"data\.path holds encoded captions; give prompt"):
        data.parse_labels([3])
    made_by = {**data.encoded_by, "text": {"name": "letters"}}
    check = {"text": {"name": "letters"}}
    assembly.check_captions(check, text, made_by)
    with pytest.raises(ValueError, match=r"captions of data\.path were encoded by codec/text={'name': 'lett"):
        assembly.check_captions(check, Letters(2.0), made_by)
    with pytest.raises(ValueError, match=r"this run has {'name': 'clip'}; use that encoder, or prepare"):
        assembly.check_captions({"text": {"name": "clip"}}, text, made_by)


def test_another_tokenizer_is_another_encoder():
    text, other = Letters(), Letters()
    text.tokens, other.tokens = (Tokens(word_tokenizer([*MARKS, word]), 6, 0) for word in ("one", "two"))
    assert assembly.text_sha256(text) == assembly.text_sha256(text)
    assert assembly.text_sha256(text) != assembly.text_sha256(other)


def test_what_cannot_be_prepared_is_refused_before_a_folder_is_made(images, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="data=digits is made anew in every batch"):
        prepare(config(images, out, data={"name": "digits"}))
    (images / "even" / "00.txt").write_text("a caption")
    for name, why in {"labels": "reads labels", "transformer_text": "is trained with the denoiser"}.items():
        codec = {"name": "identity", "text": {"name": name}}
        with pytest.raises(ValueError, match=f"data=folder has captions, and codec/text={name} {why}"):
            prepare(config(images, out, codec=codec))
    assert not out.exists()


def test_the_share_is_given_or_the_launchers(monkeypatch):
    assert share(1, 4) == (1, 4)
    assert share(None, None) == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert share(None, None) == (2, 3)
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert share(None, None) == (0, 3)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert share(None, None) == (1, 2)
    for part, parts in ((4, 4), (1, None)):
        with pytest.raises(ValueError, match=f"part={part}"):
            share(part, parts)


def test_float16_latents_are_rounded_by_half_precision_only(images, tmp_path):
    prepare(config(images, tmp_path / "out", precision="float16"))
    pixels = build("data", {**FOLDER, "path": str(images)}, split="train")
    latents = build("data", {**LATENTS, "path": str(tmp_path / "out")}, split="train")
    x, z = (next(Loader(data, 20, 0))[0] for data in (pixels, latents))
    ordered = [t.flatten(1)[t.flatten(1).mean(1).argsort()] for t in (x, z)]
    torch.testing.assert_close(*ordered, atol=1e-3, rtol=0)
