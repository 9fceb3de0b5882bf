"""A page of one file: what is put into it comes out of it."""

import base64
import io

import numpy as np
from PIL import Image

from tpdm.runtime.page import document, embedded, gallery, thumbnail


def opened(address):
    head, content = address.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_an_embedded_image_is_the_image():
    assert np.array_equal(opened(embedded(noise(300, 200))), noise(300, 200))


def test_a_small_image_is_shown_by_squares_and_a_large_one_made_small():
    small, large = opened(thumbnail(noise(32, 16))), opened(thumbnail(noise(1024, 512)))
    assert np.array_equal(small, np.asarray(noise(32, 16)).repeat(4, 0).repeat(4, 1))
    assert (large.size, large.format) == ((256, 128), "JPEG")


def test_what_people_write_is_no_markup():
    page = document("<i>", gallery({"<b>": "data:,"}, "<u>"))
    assert not any(tag in page for tag in ("<i>", "<b>", "<u>"))
    assert page.count("&lt;") == 4
