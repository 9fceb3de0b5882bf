"""HPS v2 from a state dict in the published format, against open_clip's own towers."""

import json

import pytest
import torch

from tpdm.registry import build
from tpdm.reward.pixels import pixels

open_clip = pytest.importorskip("open_clip")
SIZES = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hps")
    (folder / "tpdm-tiny.json").write_text(json.dumps(SIZES))
    open_clip.add_model_config(folder / "tpdm-tiny.json")
    torch.manual_seed(0)
    network = open_clip.create_model("tpdm-tiny", load_weights=False)
    torch.save({"epoch": 1, "state_dict": network.state_dict()}, folder / "HPS_v2.1_compressed.pt")
    return folder, network.eval()


def reward_of(folder):
    choices = {"path": str(folder), "weights": "HPS_v2.1_compressed.pt", "arch": "tpdm-tiny", "batch_size": 2}
    cfg = {"name": "hpsv2", "cost": {"name": "linear", "cost": 0.0}, **choices}
    return build("reward", cfg, device=torch.device("cpu"))


@torch.no_grad()
def test_it_is_the_cosine_of_the_two_towers_on_the_padded_image(published):
    folder, network = published
    images, prompts = torch.rand(3, 3, 12, 20) * 2 - 1, ["a cat", "a dog", "sunset over mountains"]
    image = network.encode_image(pixels(images, 16, fit="pad"))
    text = network.encode_text(open_clip.get_tokenizer("ViT-H-14")(prompts))
    expected = (image * text).sum(1) / (image.norm(dim=1) * text.norm(dim=1))
    torch.testing.assert_close(reward_of(folder)(images, None, None, prompts), expected, rtol=1e-4, atol=1e-5)


def test_the_network_of_the_published_weights_is_what_its_name_says():
    config = open_clip.get_model_config("ViT-H-14")
    assert config["embed_dim"] == 1024
    assert config["vision_cfg"]["layers"] == 32


def test_without_the_extra_the_error_says_what_to_install(published, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(ValueError, match=r"pip install 'tpdm\[rewards\]'"):
        reward_of(published[0])
