from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d, layer_norm, linear

from tests.predictor.features import SPEC, random_features
from tests.tiny import scrambled
from tpdm.predictor.vit import ViTPredictor
from tpdm.types import FeatureSpec

CHOICES = {
    "width": 16, "depth": 2, "num_heads": 2, "patch_size": 2, "patch_embedding": "linear",
    "mlp_ratio": 2.0, "dropout": 0.0, "attention_dropout": 0.0, "time": "log_t", "time_width": 8,
    "text": "none", "projection_width": None,
    "init_logits": (1.5, 0.5), "logit_cap": 4.0, "epsilon": 1.0,
}  # fmt: skip
T = torch.rand(5) + 0.01


def vit(features=SPEC, **choices):
    torch.manual_seed(0)
    return scrambled(ViTPredictor(**CHOICES | choices, features=features)).eval()


def answer(model, features, t=T):
    return model(features, t).concentration1


@pytest.mark.parametrize(
    ("choices", "read"),
    [
        ({"time": "log_t"}, {"t"}),
        ({"time": "temb"}, {"temb"}),
        ({"time": "none"}, set()),
        ({"text": "mean"}, {"t", "text"}),
        ({"text": "cross_attention"}, {"t", "text"}),
        ({"time": "none", "text": "cross_attention"}, {"text"}),
    ],
)
def test_it_reads_both_ends_of_the_backbone_and_what_it_was_told_to(choices, read):
    model, features, other = vit(**choices), random_features(5), random_features(5, seed=1)
    before = answer(model, features)
    changed = {
        name: answer(model, replace(features, **{name: getattr(other, name)}))
        for name in ("first", "last", "temb", "text")
    }
    changed["t"] = answer(model, features, T.flip(0))
    moved = {name for name, after in changed.items() if not torch.allclose(after, before)}
    assert moved == {"first", "last", *read}


def test_it_sees_where_a_token_stands():
    features = random_features(5)
    mirrored = replace(features, first=features.first.flip(1), last=features.last.flip(1))
    assert not torch.allclose(answer(vit(patch_size=1), mirrored), answer(vit(patch_size=1), features))


def test_tokens_are_normalised_so_that_their_scale_does_not_matter():
    features = random_features(5)
    scaled = replace(features, first=50 * features.first, last=0.1 * features.last)
    torch.testing.assert_close(answer(vit(), scaled), answer(vit(), features), rtol=1e-4, atol=0)


def test_patches_shorten_the_sequence():
    lengths = []
    for patch_size in (1, 2):
        model = vit(patch_size=patch_size)
        model.blocks[0].register_forward_hook(lambda block, args, out: lengths.append(out.shape[1]))
        answer(model, random_features(5))
    assert lengths == [1 + 8, 1 + 2]


def test_a_patch_may_be_the_mean_of_its_normalised_tokens():
    """The rollout keeps the means, and from them the first layer's answer is the same."""
    model, features = vit(patch_embedding="mean"), random_features(5)
    embedded = []
    model.patch.register_forward_hook(lambda layer, args, out: embedded.append(out))
    kept = model.digest(features)
    assert torch.equal(answer(model, features), answer(model, kept))
    tokens = [layer_norm(x, (SPEC.width,), eps=1e-6) for x in (features.first, features.last)]
    maps = torch.cat(tokens, dim=-1).transpose(1, 2).unflatten(2, SPEC.hw)
    means = avg_pool2d(maps, 2).flatten(2).transpose(1, 2)
    for found in embedded:
        torch.testing.assert_close(found, linear(means, model.patch.weight, model.patch.bias))
    assert kept.first.numel() * 2**2 == features.first.numel()


def test_dropout_acts_in_training_alone():
    features = random_features(5)
    for choices in ({"dropout": 0.5}, {"attention_dropout": 0.5}):
        model = vit(**choices)
        torch.testing.assert_close(answer(model, features), answer(vit(), features))
        assert not torch.allclose(answer(model.train(), features), answer(vit(), features))


def test_a_projection_stands_between_the_class_token_and_the_head():
    model = vit(projection_width=6)
    assert model.head.linear.in_features == 6
    assert answer(model, random_features(5)).shape == (5,)


@pytest.mark.parametrize(
    ("choices", "features", "complaint"),
    [
        ({"num_heads": 3}, SPEC, r"predictor.width=16 does not divide over predictor.num_heads=3"),
        ({"patch_size": 4}, SPEC, r"predictor.patch_size=4 does not divide the \(2, 4\) tokens"),
        ({"width": 18}, SPEC, r"predictor.width=18 is not a multiple of 4"),
        ({"text": "mean"}, FeatureSpec(12, 10, None, (2, 4)), r"predictor.text=mean, .* use text: none"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(choices, features, complaint):
    with pytest.raises(ValueError, match=complaint):
        vit(features, **choices)
