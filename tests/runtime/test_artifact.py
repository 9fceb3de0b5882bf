import hashlib
import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.runtime.artifact import artifact_sha256, load_artifact, save_artifact

CONFIG = {"name": "dit", "width": 96, "block": {"name": "adaln_zero"}}


def state_of(value: float) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((3, 4), value), "a.bias": torch.full((3,), value).bfloat16()}


def assert_holds(folder, value: float) -> None:
    config, state = load_artifact(folder)
    assert config == CONFIG
    assert state.keys() == state_of(value).keys()
    for name, x in state_of(value).items():
        torch.testing.assert_close(state[name], x, rtol=0, atol=0)


def test_it_loads_as_it_was_saved_and_is_replaced_whole(tmp_path):
    folder = tmp_path / "run" / "denoiser"
    for value in (1.0, 2.0):
        save_artifact(folder, CONFIG, state_of(value), weights="ema")
        assert_holds(folder, value)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert list(folder.parent.iterdir()) == [folder]
    assert json.loads((folder / "config.json").read_text())["weights"] == "ema"


def test_the_hash_tells_weights_apart_and_not_folders(tmp_path):
    hashes = []
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        save_artifact(tmp_path / name, CONFIG, state_of(value))
        hashes.append(artifact_sha256(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]
    assert hashes[0] == hashlib.sha256((tmp_path / "a" / "model.safetensors").read_bytes()).hexdigest()


def test_views_and_parameters_can_be_saved(tmp_path):
    base = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    save_artifact(tmp_path / "a", {}, {"x": base.T})
    torch.testing.assert_close(load_artifact(tmp_path / "a")[1]["x"], base.detach().T)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "denoiser"
    save_artifact(folder, CONFIG, state_of(1.0))
    rename, done = os.rename, []

    def rename_once(*paths):
        if done:
            raise KeyboardInterrupt
        done.append(rename(*paths))

    monkeypatch.setattr(os, "rename", rename_once)
    with pytest.raises(KeyboardInterrupt):
        save_artifact(folder, CONFIG, state_of(2.0))
    monkeypatch.undo()
    assert not folder.exists()
    assert_holds(folder, 1.0)
    save_artifact(folder, CONFIG, state_of(3.0))
    assert_holds(folder, 3.0)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failed_write_keeps_the_old_one_and_names_the_folder(tmp_path, monkeypatch):
    folder = tmp_path / "denoiser"
    save_artifact(folder, CONFIG, state_of(1.0))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*denoiser"):
        save_artifact(folder, CONFIG, state_of(2.0))
    assert_holds(folder, 1.0)
    assert list(tmp_path.iterdir()) == [folder]


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_flipped_byte_or_cut_is_named(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage") / "denoiser"
    save_artifact(folder, CONFIG, state_of(1.0))
    model = folder / "model.safetensors"
    whole = bytearray(model.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        model.write_bytes(whole[:place])
        expected = "is cut short"
    else:
        whole[place] ^= data.draw(st.integers(1, 255))
        model.write_bytes(whole)
        expected = "was changed"
    with pytest.raises(ValueError, match=rf"model\.safetensors {expected}.*; copy the folder again$"):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
        (lambda f: (f / "config.json").write_text('{"config": '), r"config\.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), r"is not the config\.json of a trained component"),
        (lambda f: (f / "config.json").write_text("{}"), r"is not the config\.json of a trained component"),
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors is missing"),
        (lambda f: f.rename(f.with_name("elsewhere")), r"denoiser is missing"),
    ],
)
def test_what_is_missing_or_no_config_is_named_in_one_line(tmp_path, damage, expected):
    folder = tmp_path / "denoiser"
    save_artifact(folder, CONFIG, state_of(1.0))
    damage(folder)
    with pytest.raises(ValueError, match=expected) as error:
        load_artifact(folder)
    assert "\n" not in str(error.value)
