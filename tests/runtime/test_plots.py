from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_names_lie_apart_in_their_order_and_beside_the_axes(heights):
    moved = plots.spread(sorted(heights), 0.04)
    assert all(above - below > 0.0399 for below, above in pairwise(moved))
    assert moved[-1] <= 1
    assert moved[0] >= min(min(heights), 1 - 0.04 * len(heights)) - 1e-9


def test_names_that_have_room_stay_where_they_are():
    assert plots.spread([0.1, 0.5, 0.9], 0.04) == [0.1, 0.5, 0.9]


BLUE, ORANGE = plots.Look("#0072B2", "o", 3.0, "-"), plots.Look("#D55E00", "s", 3.0, "--")
BLACK = plots.Look("#000000", "o", 1.4, "-")


def of_colour(sheet, look):
    """Where the axes of a picture have it."""
    colour = tuple(int(look.colour[i : i + 2], 16) for i in (1, 3, 5))
    return (sheet[:, : sheet.shape[1] * 2 // 3] == colour).all(2)


def test_a_pale_curve_of_one_budget_is_seen():
    """A line through one point has no length, and the one to its name is paler still."""
    looks = plots.Curve("with a look", [1.0, 9.0], [1.0, 1e-4], BLUE)
    pale = plots.Curve("pale", [3.0], [0.1], None)

    def grey(*series: plots.Curve) -> np.ndarray:
        sheet = np.asarray(plots.pareto(series, "calls", "error", [3.0]))
        height, width, _ = sheet.shape
        inside = sheet[height // 20 : height * 4 // 5, width // 8 : width * 2 // 3]
        return (inside == 0xAA).all(2)

    assert not grey(looks).any()
    assert grey(looks, pale).any()


def test_what_costs_the_same_stands_together():
    """A budget that is met to a ten-thousandth is no other budget."""
    series = [plots.Curve("a", [6.0], [0.1], BLUE), plots.Curve("b", [6.0006], [0.2], ORANGE)]
    sheet = np.asarray(plots.pareto(series, "calls", "error", [6.0]))
    places = [np.nonzero(of_colour(sheet, look))[1].mean() for look in (BLUE, ORANGE)]
    assert abs(places[0] - places[1]) < 5


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_curves_that_are_one_both_are_seen(order):
    """As much of the thin one as where it is alone, and a rim of the thick one."""
    thin, thick = (plots.Curve(look.colour, [2.0, 8.0], [0.1, 0.1], look) for look in (BLACK, BLUE))
    alone = of_colour(np.asarray(plots.pareto([thin], "calls", "error", [2.0])), BLACK).sum()
    sheet = np.asarray(plots.pareto([thin, thick][::order], "calls", "error", [2.0]))
    assert of_colour(sheet, BLACK).sum() > 0.9 * alone
    assert of_colour(sheet, BLUE).sum() > alone / 4


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=40, unique=True).map(sorted), st.floats(1.01, 2))
def test_numbers_below_an_axis_have_room_and_none_that_has_is_missing(ticks, factor):
    kept = plots.roomy(ticks, factor)
    assert all(high >= factor * low for low, high in pairwise(kept))
    assert all(any(near <= tick < factor * near for near in kept) for tick in {*ticks} - {*kept})
    assert {*kept} <= {*ticks}
