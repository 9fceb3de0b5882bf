import numpy as np
import pytest
import torch
from PIL import Image

from tpdm.runtime import plots


def test_a_grid_shows_each_pixel_as_a_crisp_square():
    x = torch.linspace(-1, 1, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    sheet = np.asarray(plots.sample_grid(x, columns=2, scale=3))
    tile = sheet[3 : 3 + 12, 3 : 3 + 15]  # a gap as wide as a pixel's square
    expected = (x[0].permute(1, 2, 0) + 1) * 127.5
    np.testing.assert_allclose(tile[::3, ::3], expected, atol=0.5)
    np.testing.assert_array_equal(tile, tile[::3, ::3].repeat(3, 0).repeat(3, 1))


def test_captions_are_written_under_each_image():
    x = torch.ones(3, 1, 8, 8)  # white on white: what is dark is a caption
    plain = plots.sample_grid(x, columns=2, scale=8)
    captioned = plots.sample_grid(x, ["5", "6", "7"], columns=2, scale=8)
    assert np.asarray(plain).min() == 255
    assert captioned.width == plain.width
    ink = np.asarray(captioned.convert("L")) < 128
    caption_height = (captioned.height - plain.height) // 2
    assert ink[8 + 64 : 8 + 64 + caption_height].any()
    assert not ink[8 : 8 + 64].any()


def test_no_image_is_too_narrow_for_its_caption():
    """Two beside each other are as each is alone; the gap between them is one."""
    alone, two = (
        np.asarray(plots.sample_grid(torch.ones(n, 1, 1, 2), n * ["14 NFE"], columns=2, scale=6))
        for n in (1, 2)
    )
    np.testing.assert_array_equal(two, np.concatenate([alone, alone[:, 6:]], 1))


def test_points_of_a_plane_are_shown_where_they_lie_in_the_colour_of_their_calls():
    """Three corners of a square: the two of few calls beside each other, the other above the second."""
    x = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0]])
    sheet = np.asarray(plots.samples(x[:, None, None], torch.tensor([2, 2, 7]), columns=2)).astype(int)
    in_axes = sheet[:, : sheet.shape[1] * 6 // 7]
    purple, green = (np.argwhere(abs(in_axes - rgb).max(2) < 2) for rgb in ((71, 19, 101), (176, 221, 47)))
    middle = purple[:, 1].mean()
    left, right = (purple[where].mean(0) for where in (purple[:, 1] < middle, purple[:, 1] > middle))
    side = right[1] - left[1]
    assert side > 100
    assert right - left == pytest.approx([0, side], abs=1)
    assert green.mean(0) - right == pytest.approx([-side, 0], abs=1)


@pytest.mark.parametrize("group", [None, torch.tensor([0, 2, 2])])
def test_plots_draw_whatever_a_sampler_returns(group):
    t = torch.tensor([[1.0, 0, 0, 0], [1, 0.5, 0.2, 0], [1, 0.3, 0, 0]])
    alive = t[:, :-1] > 0
    picture = plots.schedules(t, alive, group, group_label="digits")
    assert picture.size == (864, 540)
    if group is not None:
        assert plots.steps_by_group(alive.sum(1), group, "digits").size == (864, 540)


def test_curves_survive_what_is_not_finite():
    series = {"a": (range(5), [1.0, float("nan"), 3.0, float("inf"), 2.0]), "b": ([], [])}
    assert plots.curves(series, smooth=3, log=True).size == (864, 540)


def test_running_mean_is_centred_and_skips_what_is_not_finite():
    steps = np.arange(5.0)
    values = np.array([0.0, 3.0, np.nan, 5.0, 7.0])
    np.testing.assert_allclose(plots.running_mean(steps, values, 2), [1.5, 1.5, np.nan, 6, 6])
    np.testing.assert_allclose(plots.running_mean(steps, values, 0), values)


def test_a_gif_keeps_its_frames(tmp_path):
    plots.gif(
        [Image.new("L", (4, 4), shade) for shade in (0, 100, 200)], tmp_path / "a.gif", milliseconds=100
    )
    with Image.open(tmp_path / "a.gif") as read:
        assert read.n_frames == 3
        assert read.info["loop"] == 0
    plots.png(Image.new("L", (4, 4), 7), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert read.getpixel((0, 0)) == 7
