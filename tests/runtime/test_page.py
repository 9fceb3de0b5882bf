"""A page of one file: what is put into it comes out of it."""

import base64
import io
import re

import numpy as np
from PIL import Image

from tpdm.runtime.page import WIDTH, Point, document, embedded, gallery, scatter, thumbnail


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


def test_the_names_of_points_are_not_cut_at_the_edge():
    """A letter of 11 pixels' height is about 6 wide."""
    name = "cross_attention_vit_medium"
    drawn = scatter([Point(name, x, 1) for x in (0, 3, 5, 7, 10)], ("across", "up"))
    marks = re.findall(rf'<text x="([\d.]+)"[^>]*text-anchor="(start|end)">{name}<', drawn)
    assert len(marks) == 5
    for x, anchor in marks:
        start = float(x) - (6 * len(name) if anchor == "end" else 0)
        assert 0 <= start <= WIDTH - 6 * len(name)
