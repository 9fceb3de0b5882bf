import pytest
import torch
from torch.nn import functional as F

from tests.predictor.features import SPEC, random_features
from tests.tiny import scrambled
from tpdm.predictor.cnn import CNNPredictor


def cnn(width=16, groups=4, pool=16):
    return CNNPredictor(width, groups, pool, (1.5, 0.5), 4.0, 1.0, "raster", features=SPEC)


def test_it_is_the_published_stack_of_layers():
    model, features = scrambled(cnn()), random_features(5)
    x = torch.cat([features.first, features.last], dim=2).mT.reshape(5, 24, 2, 4)
    shift, scale = model.modulation.proj(F.silu(features.temb)).chunk(2, dim=1)
    x = F.group_norm(F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1), 4)
    x = F.silu(x * (1 + scale[:, :, None, None]) + shift[:, :, None, None])
    x = F.conv2d(x, model.conv2.weight, model.conv2.bias, stride=2, padding=1).amax((2, 3))  # of 1x2
    expected = model.head(F.silu(model.linear(x)))
    got = model(features, torch.rand(5))
    torch.testing.assert_close(got.concentration1, expected.concentration1)
    torch.testing.assert_close(got.concentration0, expected.concentration0)


def test_it_averages_large_maps_before_the_maximum():
    model, features = scrambled(cnn(pool=1)), random_features(5)
    seen = []
    model.conv2.register_forward_hook(lambda layer, args, out: seen.append(out))
    model.linear.register_forward_hook(lambda layer, args, out: seen.append(args[0]))
    model(features, torch.rand(5))
    torch.testing.assert_close(seen[1], seen[0].mean((2, 3)))


def test_groups_must_divide_the_width():
    with pytest.raises(ValueError, match=r"predictor.width=16 does not divide over predictor.groups=5"):
        cnn(groups=5)
