"""ImageReward from its published names, against the same arithmetic written out on the state dict itself."""

import json

import pytest
import torch
from torch.nn import functional as F

from tests.reward.published import MED, image_reward_weights, save_image_reward
from tpdm.registry import build
from tpdm.reward.image_reward import VIT_LARGE, ImageReward
from tpdm.reward.pixels import pixels

HEADS = VIT_LARGE["num_heads"]
COST = {"name": "linear", "cost": 0.0}


def direct(state, pixels, input_ids, mask):
    """BLIP and the MLP as the paper's code computes them, line by line in plain torch."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x, eps):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def attend(q, k, v, heads, bias=0.0):
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    vit = "blip.visual_encoder"
    weight = state[f"{vit}.patch_embed.proj.weight"]
    x = F.conv2d(pixels, weight, state[f"{vit}.patch_embed.proj.bias"], stride=weight.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{vit}.cls_token"].expand(len(x), -1, -1), x], 1) + state[f"{vit}.pos_embed"]
    for block in (f"{vit}.blocks.{k}" for k in range(2)):
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + linear(f"{block}.attn.proj", attend(q, k, v, HEADS))
        hidden = F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6)))
        x = x + linear(f"{block}.mlp.fc2", hidden)
    image = norm(f"{vit}.norm", x, 1e-6)

    bert = "blip.text_encoder"
    x = state[f"{bert}.embeddings.word_embeddings.weight"][input_ids]
    x = x + state[f"{bert}.embeddings.position_embeddings.weight"][: x.shape[1]]
    x = norm(f"{bert}.embeddings.LayerNorm", x, 1e-12)
    hidden_tokens = (1 - mask[:, None, None].float()) * -10000.0
    for layer in (f"{bert}.encoder.layer.{k}" for k in range(2)):
        for kind, bias in (("attention", hidden_tokens), ("crossattention", 0.0)):
            read = x if kind == "attention" else image
            q = linear(f"{layer}.{kind}.self.query", x)
            k, v = (linear(f"{layer}.{kind}.self.{part}", read) for part in ("key", "value"))
            seen = linear(f"{layer}.{kind}.output.dense", attend(q, k, v, MED["num_attention_heads"], bias))
            x = norm(f"{layer}.{kind}.output.LayerNorm", seen + x, 1e-12)
        seen = linear(f"{layer}.output.dense", F.gelu(linear(f"{layer}.intermediate.dense", x)))
        x = norm(f"{layer}.output.LayerNorm", seen + x, 1e-12)
    x = x[:, 0]
    for place in (0, 2, 4, 6, 7):
        x = linear(f"mlp.layers.{place}", x)
    return (x[:, 0] - 0.16717362830052426) / 1.0333394966054072


def asked():
    torch.manual_seed(1)
    mask = torch.arange(6)[None] < torch.tensor([[6], [3], [1]])
    return torch.randn(3, 3, 16, 16), torch.randint(MED["vocab_size"], (3, 6)), mask.long()


@torch.no_grad()
def test_its_score_is_that_of_the_published_arithmetic():
    state = image_reward_weights()
    network = ImageReward.from_official(state, MED, VIT_LARGE)
    torch.testing.assert_close(network.score(*asked()), direct(state, *asked()), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_prompt_is_read_in_the_light_of_the_image_and_padding_is_not_read():
    network = ImageReward.from_official(image_reward_weights(), MED, VIT_LARGE)
    images, ids, mask = asked()
    score = network.score(images, ids, mask)
    assert not torch.isclose(network.score(images.flip(0), ids, mask), score)[0]
    assert not torch.isclose(network.score(images, ids.flip(0), mask), score)[0]
    torch.testing.assert_close(network.score(images, ids + (1 - mask), mask), score)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mlp.layers.4.bias"), "lacks mlp.layers.4.bias"),
        (lambda state: state.pop("blip.visual_encoder.cls_token"), "lacks blip.visual_encoder.cls_token"),
        (lambda state: state.update(extra=torch.zeros(1)), "has extra, which this network has not"),
        (
            lambda state: state.update({"blip.visual_encoder.norm.bias": torch.zeros(5)}),
            r"has blip.visual_encoder.norm.bias \(5,\), where this network has \(32,\)",
        ),
    ],
)
def test_weights_that_are_not_the_published_ones_are_named(change, message):
    state = image_reward_weights()
    change(state)
    with pytest.raises(ValueError, match=message):
        ImageReward.from_official(state, MED, VIT_LARGE)


@torch.no_grad()
def test_from_its_files_it_scores_images_and_prompts_as_published(tmp_path):
    folder = str(save_image_reward(tmp_path / "published"))
    choices = {"path": folder, "tokenizer": folder, "batch_size": 2, "cost": COST}
    reward = build("reward", {"name": "image_reward", **choices}, device=torch.device("cpu"))
    images = torch.rand(3, 3, 20, 24) * 2 - 1
    words = [["a", "red", "cat"], ["the", "dog", "on", "the", "mat"], [*["blue"] * 50]]
    vocabulary = json.loads((tmp_path / "published" / "tokenizer.json").read_text())["model"]["vocab"]
    ids, mask = torch.zeros(3, 35, dtype=torch.long), torch.zeros(3, 35, dtype=torch.long)
    for row, prompt in enumerate(words):
        inner = [vocabulary[word] for word in prompt][:33]
        ids[row, : len(inner) + 2] = torch.tensor([vocabulary["[CLS]"], *inner, vocabulary["[SEP]"]])
        mask[row, : len(inner) + 2] = 1
    expected = direct(image_reward_weights(), pixels(images, 16), ids, mask)
    seen = reward(images, None, None, [" ".join(prompt).upper() for prompt in words])
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def test_a_missing_file_and_missing_prompts_are_named(tmp_path):
    folder = save_image_reward(tmp_path / "published")
    choices = {"path": str(folder), "tokenizer": str(folder), "batch_size": 2, "cost": COST}
    reward = build("reward", {"name": "image_reward", **choices}, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="reads prompts, and these data have none"):
        reward(torch.zeros(1, 3, 16, 16), None, None)
    (folder / "med_config.json").unlink()
    with pytest.raises(ValueError, match=r"reward\.path=.*published has no med_config\.json"):
        build("reward", {"name": "image_reward", **choices}, device=torch.device("cpu"))
