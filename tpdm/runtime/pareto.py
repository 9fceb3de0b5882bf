"""Quality against price, for many beside each other: which are worth what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image

from tpdm.runtime.plots import blank, picture, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NARROWEST = 1.2  # from the middle of an axis of prices to its end: what costs the same stands together
LABEL = 0.025  # of the axes' height, from a small name to the next
TICK = 0.04  # of the axes' width, from a number below them to the next


class Look(NamedTuple):
    """How a curve is told from others."""

    colour: str
    marker: str
    width: float
    style: Literal["-", "--"]


class Curve(NamedTuple):
    """A contestant's results: prices, such as calls, and errors. Without a look it is pale."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    look: Look | None


@styled
def pareto(series: Sequence[Curve], xlabel: str, ylabel: str, ticks: Sequence[float]) -> Image.Image:
    """Quality against price, both logarithmic: those with a look in colour, the others pale and named beside
    the axes, in the order of their ends. Thin curves lie on thick ones, so that where several are one all are
    seen. `ticks` are the prices that are written below the axis, where there is room for them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axes = blank("", xlabel, ylabel, (10.8, 6.4))
    pale = [curve for curve in series if curve.look is None]
    for curve in pale:
        axes.plot(curve.x, curve.y, color="#AAAAAA", linewidth=0.9, marker=".", markersize=4)
    for name, x, y, look in series:
        if look is not None:
            axes.plot(
                x,
                y,
                look.style,
                color=look.colour,
                label=name,
                linewidth=look.width,
                marker=look.marker,
                markersize=3 + 2 * look.width,
                zorder=3 - look.width / 10,
            )
    axes.set(xscale="log", yscale="log")
    axes.margins(x=0.03)
    low, high = axes.get_xlim()
    middle, half = (low * high) ** 0.5, max((high / low) ** 0.5, NARROWEST)
    axes.set_xlim(middle / half, middle * half)
    axes.xaxis.set_major_locator(FixedLocator(roomy(ticks, half ** (2 * TICK))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _name_ends(axes, pale)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(loc="outside right upper")
    return picture(axes)


def roomy(ticks: Sequence[float], factor: float) -> list[float]:
    """Rising prices without those that are less than so many times the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick >= factor * kept[-1]:
            kept.append(tick)
    return kept


def _name_ends(axes: Axes, series: Sequence[Curve]) -> None:
    """Names to the right of the axes, each with a thin line to where its curve ends; none on another."""
    low, high = np.log(axes.get_ylim())
    ends = sorted(series, key=lambda curve: curve.y[-1])
    heights = spread([float((np.log(curve.y[-1]) - low) / (high - low)) for curve in ends], LABEL)
    for curve, height in zip(ends, heights, strict=True):
        axes.annotate(
            curve.name,
            (curve.x[-1], curve.y[-1]),
            (1.02, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color="#666666",
            arrowprops={"arrowstyle": "-", "color": "#BBBBBB", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Rising numbers moved until neighbours are so far apart, and as little as that takes upwards; the last
    stays at 1 or below."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + apart) if moved else height)
    highest = 1.0
    for k in reversed(range(len(moved))):
        moved[k] = min(moved[k], highest)
        highest = moved[k] - apart
    return moved
