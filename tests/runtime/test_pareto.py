from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpdm.runtime.pareto import Curve, Look, pareto, roomy, spread

BLUE, ORANGE = Look("#0072B2", "o", 3.0, "-"), Look("#D55E00", "s", 3.0, "--")
BLACK = Look("#000000", "o", 1.4, "-")


def of_colour(sheet, look):
    """Where the axes of a picture have it."""
    colour = tuple(int(look.colour[i : i + 2], 16) for i in (1, 3, 5))
    return (sheet[:, : sheet.shape[1] * 2 // 3] == colour).all(2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_names_lie_apart_in_their_order_and_beside_the_axes(heights):
    moved = spread(sorted(heights), 0.04)
    assert all(above - below > 0.0399 for below, above in pairwise(moved))
    assert moved[-1] <= 1
    assert moved[0] >= min(min(heights), 1 - 0.04 * len(heights)) - 1e-9


def test_names_that_have_room_stay_where_they_are():
    assert spread([0.1, 0.5, 0.9], 0.04) == [0.1, 0.5, 0.9]


def test_a_pale_curve_of_one_budget_is_seen():
    """A line through one point has no length, and the one to its name is paler still."""
    looks = Curve("with a look", [1.0, 9.0], [1.0, 1e-4], BLUE)
    pale = Curve("pale", [3.0], [0.1], None)

    def grey(*series: Curve) -> np.ndarray:
        sheet = np.asarray(pareto(series, "calls", "error", [3.0]))
        height, width, _ = sheet.shape
        inside = sheet[height // 20 : height * 4 // 5, width // 8 : width * 2 // 3]
        return (inside == 0xAA).all(2)

    assert not grey(looks).any()
    assert grey(looks, pale).any()


def test_what_costs_the_same_stands_together():
    """A budget that is met to a ten-thousandth is no other budget."""
    series = [Curve("a", [6.0], [0.1], BLUE), Curve("b", [6.0006], [0.2], ORANGE)]
    sheet = np.asarray(pareto(series, "calls", "error", [6.0]))
    places = [np.nonzero(of_colour(sheet, look))[1].mean() for look in (BLUE, ORANGE)]
    assert abs(places[0] - places[1]) < 5


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_curves_that_are_one_both_are_seen(order):
    """As much of the thin one as where it is alone, and a rim of the thick one."""
    thin, thick = (Curve(look.colour, [2.0, 8.0], [0.1, 0.1], look) for look in (BLACK, BLUE))
    alone = of_colour(np.asarray(pareto([thin], "calls", "error", [2.0])), BLACK).sum()
    sheet = np.asarray(pareto([thin, thick][::order], "calls", "error", [2.0]))
    assert of_colour(sheet, BLACK).sum() > 0.9 * alone
    assert of_colour(sheet, BLUE).sum() > alone / 4


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=40, unique=True).map(sorted), st.floats(1.01, 2))
def test_numbers_below_an_axis_have_room_and_none_that_has_is_missing(ticks, factor):
    kept = roomy(ticks, factor)
    assert all(high >= factor * low for low, high in pairwise(kept))
    assert all(any(near <= tick < factor * near for near in kept) for tick in {*ticks} - {*kept})
    assert {*kept} <= {*ticks}
