"""A published autoencoder is read from its own layout, and answers as diffusers does."""

import json

import pytest
import torch
from diffusers import AutoencoderKL

from tpdm.registry import build
from tpdm.types import DataShape

SCALE, SHIFT = 0.5, 0.25


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        norm_num_groups=4,
        scaling_factor=SCALE,
        shift_factor=SHIFT,
    ).eval()


def opened(path):
    return build("codec", {"name": "sd_vae", "path": str(path), "batch_size": 2})


@pytest.mark.parametrize("place", [".", "vae"])
@torch.no_grad()
def test_it_answers_as_diffusers_does(place, network, tmp_path):
    network.save_pretrained(tmp_path / place)
    codec, x = opened(tmp_path), torch.randn(5, 3, 8, 8)
    z = (network.encode(x).latent_dist.mode() - SHIFT) * SCALE
    torch.testing.assert_close(codec.encode(x), z)
    torch.testing.assert_close(codec.decode(z), network.decode(z / SCALE + SHIFT).sample)
    assert codec.shape_of(DataShape(3, 8, 8)) == DataShape(*z.shape[1:])
    with pytest.raises(ValueError, match="images of 3 channels, and these have 1"):
        codec.shape_of(DataShape(1, 8, 8))


def test_sizes_are_known_without_weights(network, tmp_path):
    network.save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    codec = opened(tmp_path)
    assert codec.shape_of(DataShape(3, 16, 8)) == DataShape(3, 8, 4)
    with pytest.raises(ValueError, match="does not load as an AutoencoderKL"):
        codec.encode(torch.zeros(1, 3, 8, 8))


def test_weights_that_do_not_fit_are_named(network, tmp_path):
    network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "layers_per_block": 2}))
    with pytest.raises(ValueError, match=r"safetensors has missing keys: "):
        opened(tmp_path).encode(torch.zeros(1, 3, 8, 8))


def test_a_pickle_is_not_read(network, tmp_path):
    network.save_pretrained(tmp_path, safe_serialization=False)
    assert list(tmp_path.glob("*.bin"))
    with pytest.raises(
        ValueError, match=r"has no diffusion_pytorch_model\.safetensors, and a pickle beside it is"
    ):
        opened(tmp_path)


def test_another_class_is_refused(network, tmp_path):
    network.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "VQModel"}')
    with pytest.raises(ValueError, match=r"config\.json is not the config\.json of an AutoencoderKL"):
        opened(tmp_path).shape_of(DataShape(3, 8, 8))


@pytest.mark.parametrize("path", ["nowhere", "owner/name"])
def test_what_is_not_there_is_said_with_how_to_get_it(path, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    line = "`hf download owner/name" if "/" in path else "no folder here, and no id of the hub"
    with pytest.raises(ValueError, match=f"codec.path={path} is no folder here.*{line}|{line}"):
        opened(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no config\.json: .*`hf download "):
        opened(tmp_path / "empty")
