"""Images reach a scorer as the published code would have made them of a file, by torchvision's own parts."""

import pytest
import torch
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
    functional,
)
from torchvision.transforms.functional import to_pil_image

from tpdm.reward.pixels import CLIP_MEAN, CLIP_STD, eight_bits, pixels

NORMALIZE = Normalize(CLIP_MEAN, CLIP_STD)


def of_clip(image, size):
    """What CLIP's code, ImageReward's and the aesthetic predictor's do with a file."""
    steps = [Resize(size, InterpolationMode.BICUBIC), CenterCrop(size), ToTensor(), NORMALIZE]
    return Compose(steps)(image)


def of_hps(image, size):
    """What HPS v2's code does with a file: a tensor first, then as large as its longer side allows."""
    x = ToTensor()(image)
    scale = size / float(max(x.shape[1:]))
    height, width = (round(length * scale) for length in x.shape[1:])
    x = functional.resize(x, [height, width], InterpolationMode.BICUBIC)
    rows, columns = size - height, size - width
    around = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
    return NORMALIZE(functional.pad(x, around, fill=0))


@pytest.mark.parametrize(("fit", "published", "levels"), [("crop", of_clip, 1.01), ("pad", of_hps, 1e-3)])
@pytest.mark.parametrize("hw", [(48, 48), (64, 40), (20, 36), (29, 47), (16, 16)])
def test_they_are_what_the_published_code_makes_of_the_file(fit, published, levels, hw):
    """Within a level where it has whole ones, since Pillow weighs them by whole numbers too."""
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 6) * 2 - 1, hw, mode="nearest")
    files = [to_pil_image(image.to(torch.uint8)) for image in eight_bits(images)]
    expected = torch.stack([published(file, 16) for file in files])
    assert (pixels(images, 16, fit) - expected).abs().max() < levels / 255 / min(CLIP_STD)


def test_levels_are_those_of_a_file_and_grey_has_three_channels():
    images = torch.tensor([-1.5, -1.0, 0.0, 1.0]).view(1, 1, 2, 2)
    expected = torch.tensor([0.0, 0.0, 128.0, 255.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    torch.testing.assert_close(eight_bits(images), expected)
