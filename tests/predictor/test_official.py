"""The published predictor from its own names, against its arithmetic written out."""

import pytest
import torch
from torch.nn import functional as F

from tpdm.predictor.cnn import CNNPredictor
from tpdm.registry import build
from tpdm.types import Features, FeatureSpec

WIDTH, TEMB, OUT = 6, 6, 5


def published(hidden=7, width=WIDTH):
    """Random tensors under the published names; the time embedding is as wide as the tokens."""
    torch.manual_seed(0)
    shapes = {
        "conv1": (OUT, 2 * width, 3, 3),
        "conv2": (OUT, OUT, 3, 3),
        "fc1": (hidden, OUT),
        "fc2": (2, hidden),
        "norm1.linear": (2 * OUT, width),
    }
    state = {f"{name}.weight": 0.3 * torch.randn(shape) for name, shape in shapes.items()}
    state |= {f"{name}.bias": 0.3 * torch.randn(shape[0]) for name, shape in shapes.items()}
    return state | {"norm1.norm.weight": torch.randn(OUT), "norm1.norm.bias": torch.randn(OUT)}


def features_of(count=3, side=8):
    generator = torch.Generator().manual_seed(1)
    first, last = torch.randn(2, count, side**2, WIDTH, generator=generator)
    return Features(first, last, torch.randn(count, TEMB, generator=generator), None, (side, side))


def direct(state, features):
    """(alpha, beta) as the reference computes them."""
    h, w = features.hw
    maps = []
    for tokens in (features.first, features.last):
        grid = torch.empty(len(tokens), tokens.shape[2], h, w)
        for n in range(tokens.shape[1]):  # n = 2 w h' + 4 w' + 2 p + q
            block, (p, q) = n // 4, divmod(n % 4, 2)
            grid[:, :, 2 * (block // (w // 2)) + p, 2 * (block % (w // 2)) + q] = tokens[:, n]
        maps.append(grid)
    x = F.conv2d(torch.cat(maps, 1), state["conv1.weight"], state["conv1.bias"], padding=1)
    made = F.linear(F.silu(features.temb), state["norm1.linear.weight"], state["norm1.linear.bias"])
    shift, scale = made.chunk(2, dim=1)
    x = F.group_norm(x, 1, state["norm1.norm.weight"], state["norm1.norm.bias"], 1e-6)
    x = F.silu(x * (1 + scale[:, :, None, None]) + shift[:, :, None, None])
    x = F.conv2d(x, state["conv2.weight"], state["conv2.bias"], padding=1, stride=2)
    x = F.silu(F.linear(x.amax((2, 3)), state["fc1.weight"], state["fc1.bias"]))  # 16 x 16 is no average here
    return F.linear(x, state["fc2.weight"], state["fc2.bias"]).exp() + 1


@pytest.mark.parametrize("prefix", ["", "time_predictor.", "agent_model.time_predictor."])
@torch.no_grad()
def test_it_draws_what_the_reference_draws(prefix):
    state = {f"{prefix}{name}": x for name, x in published().items()}
    predictor = CNNPredictor.from_official(state, token_order="folded")
    features = features_of()
    alpha, beta = direct(published(), features).unbind(1)
    dist = predictor(features, torch.rand(3))
    torch.testing.assert_close(dist.concentration1, alpha)
    torch.testing.assert_close(dist.concentration0, beta)
    torch.testing.assert_close(dist.mode, torch.sigmoid((alpha - 1).log() - (beta - 1).log()))
    raster = CNNPredictor.from_official(state, token_order="raster")(features, torch.rand(3))
    assert not torch.allclose(raster.concentration1, alpha)


def test_names_that_are_not_the_published_ones_are_refused():
    state = published()
    del state["fc2.bias"]
    with pytest.raises(ValueError, match=r"the official predictor lacks fc2\.bias"):
        CNNPredictor.from_official(state, token_order="folded")
    with pytest.raises(ValueError, match=r"has, and nothing here has, fc3\.bias"):
        CNNPredictor.from_official(published() | {"fc3.bias": torch.zeros(1)}, token_order="folded")
    with pytest.raises(ValueError, match=r"the official predictor has conv2\.bias \(4,\)"):
        CNNPredictor.from_official(published() | {"conv2.bias": torch.zeros(4)}, token_order="folded")


def test_one_that_does_not_fit_the_model_is_refused(tmp_path):
    torch.save(published(), tmp_path / "predictor.pt")
    cfg = {"name": "official", "path": str(tmp_path / "predictor.pt"), "token_order": "folded"}
    assert build("predictor", cfg, features=FeatureSpec(WIDTH, TEMB, None, (8, 8))).token_order == "folded"
    with pytest.raises(ValueError, match=r"of widths \(6, 6\); the model has \(8, 6\)"):
        build("predictor", cfg, features=FeatureSpec(8, TEMB, None, (8, 8)))
