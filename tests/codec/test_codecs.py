"""What holds for every codec: sizes, unit variance, the same bits from a file, a hash of the weights."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import scrambled
from tpdm.codec.kl_vae import KLVAE
from tpdm.codec.latent import Scaled
from tpdm.registry import build, names
from tpdm.types import DataShape

SIZES = {"latent_channels": 3, "base_width": 8, "multipliers": (1, 2), "depth": 1, "batch_size": 4}
SHAPE = DataShape(1, 8, 8)


def images(count=12):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def kl_vae(folder, change=0.0):
    """A codec of random weights in a folder, its latents measured on `images`; one weight is changed."""
    torch.manual_seed(0)
    fresh = KLVAE(None, **SIZES)
    network = scrambled(fresh.network(SHAPE.channels)).eval()
    plain = Scaled(network, torch.zeros(3), torch.ones(3))
    with torch.no_grad():
        z = plain.encode(images())
        next(network.parameters()).view(-1)[0] += change
    fresh.save(folder, Scaled(network, z.mean((0, 2, 3)), 1 / z.std((0, 2, 3))), SHAPE.channels)
    return {"name": "kl_vae", "path": str(folder), **SIZES}


def sd_vae(folder, change=0.0):
    kl_vae(folder / "kl", change)
    scaled = build("codec", {"name": "kl_vae", "path": str(folder / "kl"), **SIZES}).scaled
    z = Scaled(scaled.network, torch.zeros(3), torch.ones(3)).encode(images())
    scaled.network.register_to_config(shift_factor=z.mean().item(), scaling_factor=1 / z.std().item())
    scaled.network.save_pretrained(folder)
    return {"name": "sd_vae", "path": str(folder), "batch_size": 4}


MAKERS = {"identity": lambda folder, change=0.0: {"name": "identity"}, "kl_vae": kl_vae, "sd_vae": sd_vae}


@pytest.fixture(params=names("codec"))
def make(request):
    return MAKERS[request.param]


with_weights = pytest.mark.parametrize("make", [kl_vae, sd_vae])


@pytest.fixture
def cfg(make, tmp_path):
    return make(tmp_path / "a")


def test_shapes_are_those_it_names_beforehand(cfg):
    codec, x = build("codec", cfg), images()
    z = codec.encode(x)
    assert z.shape == (len(x), *codec.shape_of(SHAPE))
    assert codec.decode(z).shape == x.shape
    assert not z.requires_grad


@with_weights
def test_latents_have_about_unit_variance(cfg):
    z = build("codec", cfg).encode(images())
    assert z.mean().abs() < 1e-4
    assert (z.std() - 1).abs() < 1e-2


def test_the_same_file_gives_the_same_bits_and_hash(cfg):
    first, second = build("codec", cfg), build("codec", cfg)
    assert first.encode(images()).equal(second.encode(images()))
    assert first.sha256 == second.sha256


@with_weights
def test_a_changed_weight_changes_the_hash(make, cfg, tmp_path):
    hashes = [build("codec", make(tmp_path / str(change), change)).sha256 for change in (0.0, 1e-3)]
    assert hashes[0] == build("codec", cfg).sha256 != hashes[1]


@with_weights
def test_many_images_go_through_a_few_at_a_time(cfg, monkeypatch):
    codec, x = build("codec", cfg), images()
    sizes = []
    monkeypatch.setattr(codec.scaled, "encode", spied(codec.scaled.encode, sizes))
    monkeypatch.setattr(codec.scaled, "decode", spied(codec.scaled.decode, sizes))
    z = codec.encode(x)
    whole = codec.decode(z)
    assert sizes == [4] * 6
    torch.testing.assert_close(codec.decode(z[5:6]), whole[5:6])  # an image does not know its batch


def spied(function, sizes):
    def call(x):
        sizes.append(len(x))
        return function(x)

    return call


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 64),
    width=st.integers(1, 64),
    multipliers=st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_the_levels_decide_the_size_and_refuse_what_they_cannot_halve(height, width, multipliers):
    codec, factor = KLVAE(None, 4, 8, tuple(multipliers), 1, 1), 2 ** (len(multipliers) - 1)
    if height % factor or width % factor:
        with pytest.raises(
            ValueError, match=f"{factor}x{factor} pixels, which do not divide images of {height}x"
        ):
            codec.shape_of(DataShape(3, height, width))
    else:
        assert codec.shape_of(DataShape(3, height, width)) == DataShape(4, height // factor, width // factor)


def test_another_kl_vae_than_the_one_described_is_refused(tmp_path):
    cfg = kl_vae(tmp_path / "a")
    for change, line in [
        ({"base_width": 16}, "was trained with codec.base_width=8, this run has 16"),
        ({"path": str(tmp_path / "b")}, "b does not exist; python -m tpdm.train stage=codec"),
    ]:
        with pytest.raises(ValueError, match=line):
            build("codec", {**cfg, **change})
    with pytest.raises(ValueError, match=r"codec\.path is missing"):
        assert build("codec", {**cfg, "path": None}).sha256
    with pytest.raises(ValueError, match="images of 1 channels, and these have 3"):
        build("codec", cfg).shape_of(DataShape(3, 8, 8))


def test_every_level_halves(tmp_path):
    sides = [KLVAE(None, 4, 8, (1,) * n, 1, 1).shape_of(DataShape(3, 32, 32)).height for n in range(1, 5)]
    assert all(small * 2 == large for large, small in pairwise(sides))
