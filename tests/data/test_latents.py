"""Latents come back as they were stored, by their rows; whatever happened to the bytes, never as others."""

import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpdm.assembly import check_encoded
from tpdm.data import descriptors, latents
from tpdm.data.damage import TooManySkippedError
from tpdm.data.latents import Latents
from tpdm.data.loader import Loader
from tpdm.data.shards import (
    Manifest,
    ShardInfo,
    dequantise,
    fields_of,
    quantise,
    squared_error,
    to_bytes,
    write_shard,
)
from tpdm.types import CondSpec, DataShape

SHAPE = (2, 3, 3)
COUNT = 12  # records in a shard


def stored(folder, shards=2, precision="uint8", fixed=None):
    """Shards of random latents whose label is their number; what is to come back, by label."""
    infos, truth = [], []
    for number in range(shards):
        z = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(number))
        z = z if fixed is None else fixed
        q, clip = quantise(z) if precision == "uint8" else (z.half(), 0.0)
        label = np.arange(number * COUNT, (number + 1) * COUNT, dtype="<i4")[:, None]
        arrays = {"latent": q.numpy(), "label": label}
        name = f"{number:05d}.tar"
        offset = write_shard(folder / name, number, arrays, {"number": number})
        infos.append(ShardInfo(name, COUNT, offset, clip, 1e-4, 1.0))
        truth.append(dequantise(q, torch.full((COUNT,), clip)) if precision == "uint8" else q.float())
    about = {
        "version": 1, "codec": {"name": "identity"}, "precision": precision, "shape": list(SHAPE),
        "cond": {"slots": 1, "symbols": shards * COUNT}, "classes": [str(k) for k in range(shards * COUNT)],
        "fields": fields_of(arrays), "text_sha256": None,
    }  # fmt: skip
    Manifest(about, infos).write(folder)
    return torch.cat(truth)


def opened(folder, max_skipped=0.9, skipped=None):
    return Latents(str(folder), 0.0, 0, False, max_skipped, split="train", skipped=skipped)


def epoch(data):
    x0, label = next(Loader(data, len(data), seed=0))
    return dict(zip(label[:, 0].tolist(), x0, strict=True))


@pytest.mark.parametrize("precision", ["uint8", "float16"])
def test_every_latent_comes_back_under_its_label(tmp_path, precision):
    truth = stored(tmp_path, 3, precision)
    data = opened(tmp_path)
    assert (data.shape, data.cond, len(data)) == (DataShape(*SHAPE), CondSpec(1, 36), 36)
    met = epoch(data)
    assert sorted(met) == list(range(36))
    torch.testing.assert_close(torch.stack([met[k] for k in range(36)]), truth, atol=1e-6, rtol=1e-5)


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_quantising_costs_half_a_step_where_nothing_is_clipped(scale, seed):
    z = (torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * scale
    q, clip = quantise(z)
    error = (dequantise(q, torch.full((4,), clip)) - z).abs()
    assert error[z.abs() <= clip].max() <= clip / 255 * 1.001
    assert clip <= scale


def test_pixels_are_stored_without_loss():
    pixels = torch.arange(256).view(1, 1, 16, 16).float() / 127.5 - 1
    q, clip = quantise(pixels)
    torch.testing.assert_close(dequantise(q, torch.tensor([clip])), pixels, atol=1e-6, rtol=0)


def test_the_clip_value_is_the_best_of_its_quantiles():
    """The tails of a Gaussian are worth clipping, those of Student's t are not."""
    random = np.random.default_rng(0)
    normal, heavy = random.standard_normal((64, 4, 32, 32)), random.standard_t(3, (8, 4, 32, 32))
    for z, clipped in ((normal, True), (heavy, False)):
        x = torch.from_numpy(z).float()
        q, clip = quantise(x)
        largest = float(x.abs().max())
        assert (clip < largest) == clipped
        for other in (largest, largest / 2, largest / 4):
            assert squared_error(q, clip, x) <= squared_error(to_bytes(x, other), other, x)


def test_a_shard_is_a_tar_that_numpy_reads_without_pickle(tmp_path):
    truth = stored(tmp_path, 1, "float16")
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert tar.getnames() == ["00000.json", "00000.npy"]
        tar.extractall(tmp_path, filter="data")
    records = np.load(tmp_path / "00000.npy", allow_pickle=False)
    np.testing.assert_array_equal(records["latent"].astype(np.float32), truth.numpy())


def test_flipped_and_missing_bytes_cost_the_records_they_hit(tmp_path):
    truth = stored(tmp_path, 2)
    path = tmp_path / "00001.tar"
    info = Manifest.read(tmp_path).shards[1]
    content = bytearray(path.read_bytes())
    size = Manifest.read(tmp_path).record.itemsize
    content[info.offset + 3 * size + 9] ^= 0x40
    content[100] ^= 0xFF  # a header that nobody needs
    path.write_bytes(content[: info.offset + 10 * size + 1])
    data = opened(tmp_path, skipped=tmp_path / "skipped.jsonl")
    met = epoch(data)
    assert set(range(24)) - set(met) == {15, 22, 23}
    assert all(met[k].allclose(truth[k]) for k in met)
    listed = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert {entry["key"] for entry in listed} == {"record 3", "record 10", "record 11"}
    assert {(entry["shard"], entry["reason"]) for entry in listed} == {
        (str(path), "the bytes are not those written")
    }
    with pytest.raises(TooManySkippedError, match=r"3 of 24 samples"):
        epoch(opened(tmp_path, max_skipped=0.1))


def test_swapped_shards_and_swapped_records_are_told(tmp_path):
    stored(tmp_path, 2)
    a, b = tmp_path / "00000.tar", tmp_path / "00001.tar"
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    assert set(epoch(opened(tmp_path))) == set(range(12, 24))
    manifest = Manifest.read(tmp_path)
    size, start = manifest.record.itemsize, manifest.shards[0].offset
    first, second = one[start : start + size], one[start + size : start + 2 * size]
    a.write_bytes(one[:start] + second + first + one[start + 2 * size :])
    assert set(epoch(opened(tmp_path))) == set(range(2, 24))


def test_latents_that_are_not_finite_are_skipped(tmp_path):
    z = torch.randn(COUNT, *SHAPE)
    z[3, 0, 0, 0], z[5, 1, 2, 2] = float("nan"), float("inf")
    stored(tmp_path, 1, "float16", z)
    data = opened(tmp_path)
    assert set(epoch(data)) == set(range(12)) - {3, 5}
    assert {damage.reason for damage in data.skipped.damages.values()} == {"the latent is not finite"}


def test_missing_shards_and_changed_manifests_are_errors_before_any_training(tmp_path):
    with pytest.raises(ValueError, match=r"has no manifest\.json; python -m tpdm\.prepare ends with one"):
        opened(tmp_path)
    stored(tmp_path, 2)
    data = opened(tmp_path)
    (tmp_path / "00001.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"00001\.tar"):
        epoch(data)
    with pytest.raises(ValueError, match=r"1 of 2 shards are missing, such as .*00001\.tar"):
        opened(tmp_path)
    manifest = tmp_path / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"clip": ', '"clip": 1'))
    with pytest.raises(ValueError, match=r"manifest\.json was changed after it was written"):
        opened(tmp_path)
    manifest.write_text(text[:-30])
    with pytest.raises(ValueError, match=r"manifest\.json is not JSON"):
        opened(tmp_path)


def test_a_later_version_is_refused(tmp_path):
    stored(tmp_path, 1)
    manifest = Manifest.read(tmp_path)
    replace(manifest, about={**manifest.about, "version": 2}).write(tmp_path)
    with pytest.raises(ValueError, match=r"has version 2; this package reads 1"):
        opened(tmp_path)


def test_another_codec_than_the_one_that_made_them_is_refused():
    codec = SimpleNamespace(sha256="b" * 64)
    check_encoded({"name": "b"}, codec, None)
    check_encoded({"name": "b", "path": "moved"}, codec, {"name": "b", "path": "here", "sha256": "b" * 64})
    with pytest.raises(ValueError, match=r"made by codec {'name': 'b', .*aaa'}, and this run has {.*bbb'}"):
        check_encoded({"name": "b"}, codec, {"name": "b", "sha256": "a" * 64})


def test_a_full_disk_leaves_no_shard(tmp_path):
    q = np.zeros((COUNT, *SHAPE), np.uint8)

    def no_room(descriptor):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", no_room)
        with pytest.raises(OSError, match=r"No space left on device: .*00000\.tar"):
            write_shard(tmp_path / "00000.tar", 0, {"latent": q}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_vanishes_or_is_replaced_while_it_is_open_is_noticed(tmp_path):
    truth = stored(tmp_path, 2)
    data = opened(tmp_path)
    assert len(epoch(data)) == 24
    path = tmp_path / "00001.tar"
    content = path.read_bytes()
    os.utime(tmp_path, ns=(0, 0))  # the clock of a file system may not have moved on since
    path.rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError, match=r"00001\.tar"):
        epoch(data)
    path.write_bytes(content)
    assert all(x.equal(truth[k]) for k, x in epoch(data).items())


def test_few_files_stay_open_however_many_shards_there_are(tmp_path, monkeypatch):
    """Closed ones are opened again, also from several threads at once."""
    few = lru_cache(maxsize=3)(descriptors.Descriptor)
    monkeypatch.setattr(latents, "descriptor", lambda path, stamp: few(path))
    truth = stored(tmp_path, 10)
    data = opened(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: epoch(data), range(8)))
    assert all(x.equal(truth[k]) for met in found for k, x in met.items())
    assert len(os.listdir("/proc/self/fd")) <= before + 3


DAMAGES = st.tuples(
    st.sampled_from(["cut", "end", "flip", "double"]), st.integers(0, 4000), st.integers(0, 4000)
)


@given(damages=st.lists(DAMAGES, min_size=1, max_size=3))
@settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_damaged_shard_hangs_crashes_or_lets_wrong_bytes_through(tmp_path, damages):
    path = tmp_path / "00000.tar"
    if not path.exists():
        stored(tmp_path, 1)
        (tmp_path / "whole").write_bytes(path.read_bytes())
        torch.save(epoch(opened(tmp_path)), tmp_path / "truth")
    content = (tmp_path / "whole").read_bytes()
    for kind, a, b in damages:
        if kind == "flip":
            content = (
                content[:a] + bytes([(content[a] if a < len(content) else 0) ^ 1 << b % 8]) + content[a + 1 :]
            )
            continue
        a, b = sorted((a, b))
        content = {
            "cut": content[:a] + content[b:],
            "end": content[:a],
            "double": content[:b] + content[a:b] + content[b:],
        }[kind]
    path.write_bytes(content)
    truth = torch.load(tmp_path / "truth", weights_only=True)
    try:
        met = epoch(opened(tmp_path, max_skipped=1.0))
    except ValueError:
        return
    assert all(latent.equal(truth[label]) for label, latent in met.items())
