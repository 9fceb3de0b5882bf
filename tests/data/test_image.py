"""Pixels are where they were, the crop is the middle, and bytes that are no image are told."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import encoded
from tpdm.data.damage import UnreadableError
from tpdm.data.image import Square, decode, to_pixels


def ramp(width, height):
    """Grey rises from left to right, pixel by pixel."""
    return Image.fromarray(np.tile(np.arange(width, dtype=np.uint8), (height, 1)))


def test_the_middle_is_cut_out():
    pixels = Square(4, 1, False)(ramp(10, 4), False)
    assert pixels[0, :, 0].tolist() == [3, 4, 5, 6]


def test_the_shorter_side_is_resized_and_shapes_are_kept():
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (20, 0, 40, 20))
    pixels = Square(10, 1, False)(image, False)[:, :, 0]
    assert (pixels[:, :3] == 0).all()
    assert (pixels[:, 7:] == 255).all()


@pytest.mark.parametrize(("flip", "coin"), [(True, True), (True, False), (False, True)])
def test_a_coin_mirrors_where_flipping_is_asked_for(flip, coin):
    first = Square(4, 1, flip)(ramp(4, 4), coin)[0, :, 0].tolist()
    assert first == ([3, 2, 1, 0] if flip and coin else [0, 1, 2, 3])


def test_bytes_become_minus_one_to_one_in_nchw():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 0, 1] = (0, 51, 255)
    x0 = to_pixels(images)
    assert x0.shape == (1, 3, 2, 2)
    np.testing.assert_allclose(x0[0, :, 0, 1], [-1, -0.6, 1], atol=1e-6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_whole_images_decode_and_cut_ones_do_not(kind):
    content = encoded(100, (64, 64), kind)
    assert decode(content).size == (64, 64)
    for bad in (b"", b"\0" * 100, content[: len(content) // 2]):
        with pytest.raises(UnreadableError, match=r"the image (is empty|does not decode)"):
            decode(bad)


def test_every_flipped_bit_of_a_png_is_told_or_harmless():
    noise = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    content = buffer.getvalue()
    let_through = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x10
        try:
            image = decode(bytes(changed))
        except UnreadableError:
            continue
        let_through += 1
        assert (np.asarray(image) == noise).all()
    assert let_through < 10
