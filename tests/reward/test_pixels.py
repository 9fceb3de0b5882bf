"""Images reach a scorer as Pillow would have resized them, within the rounding of a level."""

import numpy as np
import pytest
import torch
from PIL import Image

from tpdm.reward.pixels import CLIP_MEAN, CLIP_STD, eight_bits, pixels


def by_pillow(image, size, fit):
    """Resized and cut or padded by Pillow, then normalised."""
    picture = Image.fromarray(image.to(torch.uint8).permute(1, 2, 0).numpy())
    scale = size / (min(picture.size) if fit == "crop" else max(picture.size))
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in picture.size)
    cut = picture.crop((left, top, left + size, top + size))  # black outside
    x = torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1) / 255
    return (x - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("hw", [(48, 48), (64, 40), (20, 36), (16, 16)])
def test_they_are_what_pillow_makes_of_the_file(fit, hw):
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 6) * 2 - 1, hw, mode="bilinear")
    expected = torch.stack([by_pillow(image, 16, fit) for image in eight_bits(images)])
    seen = pixels(images, 16, fit)
    assert (seen - expected).abs().max() < 1.01 / 255 / min(CLIP_STD)


def test_levels_are_those_of_a_file_and_grey_has_three_channels():
    images = torch.tensor([-1.5, -1.0, 0.0, 1.0]).view(1, 1, 2, 2)
    expected = torch.tensor([0.0, 0.0, 128.0, 255.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    torch.testing.assert_close(eight_bits(images), expected)
