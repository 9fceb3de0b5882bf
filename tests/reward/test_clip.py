"""Rewards in CLIP's space, from files in the published formats, against the cosine computed by hand."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.reward.published import save_clip
from tpdm.registry import build
from tpdm.reward.pixels import pixels

COST = {"name": "linear", "cost": 0.0}
PROMPTS = ["a red cat", "the dog", "a very long prompt that has no end"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


def images():
    return torch.rand(3, 3, 20, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def reward_of(name, **choices):
    return build(
        "reward", {"name": name, "batch_size": 2, "cost": COST, **choices}, device=torch.device("cpu")
    )


@torch.no_grad()
def embeddings(folder):
    """Of each image and prompt alone, by the two towers."""
    from transformers import CLIPModel

    clip = CLIPModel.from_pretrained(folder)
    text = []
    for prompt in PROMPTS:
        letters = [ord(c) - 31 if c != " " else None for c in prompt]  # <start>, <end>, then from "!" on
        ends = [k + 1 == len(prompt) or prompt[k + 1] == " " for k in range(len(prompt))]
        inner = [code + 188 * end for code, end in zip(letters, ends, strict=True) if code is not None][:14]
        read = clip.text_model(torch.tensor([[0, *inner, 1]]))
        text.append(clip.text_projection(read.last_hidden_state[:, -1]))
    image = clip.visual_projection(clip.vision_model(pixels(images(), 16)).pooler_output)
    return image, torch.cat(text), clip.logit_scale.exp()


def test_the_scores_are_cosines_in_their_own_units(folder):
    image, text, scale = embeddings(folder)
    cosine = torch.cosine_similarity(image, text)
    where = {"path": str(folder), "processor": str(folder)}
    clip, pick = reward_of("clip_score", **where), reward_of("pick_score", **where)
    torch.testing.assert_close(clip(images(), None, None, PROMPTS), 100 * cosine, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(pick(images(), None, None, PROMPTS), scale * cosine, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@torch.no_grad()
def test_the_aesthetic_heads_read_the_normalised_embedding(kind, folder, tmp_path):
    torch.manual_seed(0)
    sizes = [12, 1] if kind == "linear" else [12, 10, 8, 6, 4, 1]
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    places = ("0", "2", "4", "6", "7")
    names = [""] if kind == "linear" else [f"layers.{place}." for place in places]
    state = {
        f"{name}{part}": getattr(layer, part)
        for name, layer in zip(names, layers, strict=True)
        for part in ("weight", "bias")
    }
    torch.save(state, tmp_path / "head.pth")
    image, _, _ = embeddings(folder)
    expected = image / image.norm(dim=-1, keepdim=True)
    for layer in layers:
        expected = layer(expected)
    reward = reward_of("aesthetic", path=str(folder), head=str(tmp_path / "head.pth"))
    torch.testing.assert_close(reward(images(), None, None), expected[:, 0], rtol=1e-4, atol=1e-5)


def test_a_head_that_is_none_is_refused(folder, tmp_path):
    torch.save({"weight": torch.zeros(1, 12)}, tmp_path / "head.pth")
    reward = reward_of("aesthetic", path=str(folder), head=str(tmp_path / "head.pth"))
    with pytest.raises(ValueError, match="has weight, which is no published head"):
        reward(images(), None, None)
    with pytest.raises(ValueError, match=r"reward\.head=nowhere is no file"):
        reward_of("aesthetic", path=str(folder), head="nowhere")
