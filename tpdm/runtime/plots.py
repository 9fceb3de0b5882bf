"""Pictures of samples, times and curves: pure drawing, each function returns a PIL image."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, ParamSpec

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tpdm.runtime.atomic import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis

INK, PALE = "#222222", "#D9D9D9"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # colour-blind safe
STYLE = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}
SIZE, DPI = (7.2, 4.5), 120  # 864 x 540 pixels: a README's column
PLANE = (1, 1, 2)  # of an image that is a point
TILE = 128  # pixels that a small image of a grid is enlarged to, at most
Colour = str | tuple[float, ...]
Given = ParamSpec("Given")


class Estimate(NamedTuple):
    """A mean number of denoiser calls, a mean there, and its standard error; NaN where it is not known."""

    nfe: float
    mean: float
    error: float


def styled(draw: Callable[Given, Image.Image]) -> Callable[Given, Image.Image]:
    """In the house's style. matplotlib is imported with the first picture: a job that is sent draws none."""

    @functools.wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> Image.Image:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def samples(images: Float[Tensor, "B C H W"], nfe: Int[Tensor, B], *, columns: int) -> Image.Image:
    """What was drawn, with the calls that it took: a grid of images; of points of a plane, which are images
    of 1x2 pixels, where they lie."""
    if images.shape[1:] == PLANE:
        return points(images.flatten(1), nfe)
    return sample_grid(images, [f"{n} NFE" for n in nfe.tolist()], columns=columns, scale=6)


def sample_grid(
    images: Float[Tensor, "B C H W"],
    captions: Sequence[str] | None = None,
    *,
    columns: int,
    scale: int,
) -> Image.Image:
    """Images in [-1, 1], each pixel a square of `scale`, or of less where images are large; with captions,
    which no image is too narrow for.

    Of a state that no codec decodes the first three channels are shown.
    """
    scale = max(1, min(scale, TILE // images.shape[-1]))
    tiles = [_tile(image, scale) for image in images]
    width, height = tiles[0].size
    font = ImageFont.load_default(size=max(11, min(18, width // 4)))
    gap = max(3, scale)
    caption = 0 if captions is None else round(1.5 * font.size)  # type: ignore[union-attr]
    cell = max([width, *(math.ceil(font.getlength(text)) for text in captions or [])])
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    sheet = Image.new("RGB", (gap + columns * (cell + gap), gap + rows * (height + caption + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = gap + column * (cell + gap), gap + row * (height + caption + gap)
        sheet.paste(tile, (x + (cell - width) // 2, y))
        if captions is not None:
            draw.text((x + cell / 2, y + height + caption / 2), captions[index], INK, font, anchor="mm")
    return sheet


@styled
def points(x: Float[Tensor, "B 2"], nfe: Int[Tensor, B]) -> Image.Image:
    """Where they lie, the later those of more calls, which are lighter."""
    places, calls = _array(x), _array(nfe)
    axes = blank("", "", "", (6.4, 5.4))
    for n, colour in _group_colours(calls).items():
        of_calls = places[calls == n]
        axes.plot(*of_calls.T, "o", color=colour, markersize=7, markeredgecolor="white", label=str(n))
    axes.set_aspect("equal", "datalim")
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(title="NFE", alignment="left", loc="outside right upper")
    return picture(axes)


@styled
def schedules(
    t: Float[Tensor, "B K+1"],
    alive: Bool[Tensor, "B K"],
    group: Int[Tensor, B] | None = None,
    *,
    group_label: str = "",
    title: str = "",
) -> Image.Image:
    """Times against the step: a thin line per sample, coloured by its group; the means are thick."""
    times, steps = _array(t), _array(alive).sum(1)  # (B, K+1), (B,)
    groups = np.zeros(len(times), int) if group is None else _array(group)
    colours = {0: OKABE_ITO[0]} if group is None else _group_colours(groups)
    axes = blank(title, "denoising step", "time t  (1 noise, 0 data)")
    for row in np.random.default_rng(0).permutation(len(times)):  # no group lies on top of the others
        k = np.arange(steps[row] + 1)
        axes.plot(k, times[row, : len(k)], color=colours[groups[row]], linewidth=0.7, alpha=0.3)
    if group is not None:
        for g, colour in colours.items():
            of_group = groups == g
            _thick_line(axes, times[of_group, : steps[of_group].max() + 1].mean(0), colour, 2, str(g))
    _thick_line(axes, times[:, : steps.max() + 1].mean(0), INK, 4, "mean of all")
    axes.set(xlim=(0, None), ylim=(0, 1.02))
    _whole_numbers(axes.xaxis)
    axes.legend(title=group_label or None, alignment="left")
    return picture(axes)


@styled
def steps_by_group(
    nfe: Int[Tensor, B], group: Int[Tensor, B], xlabel: str, *, ylabel: str = "NFE", title: str = ""
) -> Image.Image:
    """How many samples of each group took how many steps, as mirrored bars, and the mean of each group."""
    counts, groups = _array(nfe), _array(group)
    colours = _group_colours(groups)
    means = {g: counts[groups == g].mean() for g in colours}
    axes = blank(title, xlabel, ylabel)
    for g, colour in colours.items():
        value, times = np.unique(counts[groups == g], return_counts=True)
        width = 0.86 * times / times.max()
        axes.barh(value, width, left=g - width / 2, height=0.86, color=colour, alpha=0.55, linewidth=0)
    axes.plot(list(means), list(means.values()), color=INK, linewidth=2, marker="o", markersize=6)
    for g, mean in means.items():
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        axes.annotate(f"{mean:.1f}", (g, mean), (0, 9), textcoords="offset points", ha="center", bbox=box)
    axes.set(xticks=list(colours), xlim=(min(colours) - 0.6, max(colours) + 0.6), ylim=(0, None))
    _whole_numbers(axes.yaxis)
    axes.grid(axis="x", visible=False)
    axes.text(0.99, 0.03, "line: mean\nbars: share of samples", transform=axes.transAxes, ha="right")
    return picture(axes)


@styled
def curves(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    xlabel: str = "step",
    ylabel: str = "",
    title: str = "",
    log: bool = False,
    smooth: float = 0,
    marks: Mapping[str, float] | None = None,
) -> Image.Image:
    """{name: (steps, values)} as lines: means over windows of `smooth` steps, and the raw values in pale.

    `marks` are upright lines, by their names.
    """
    axes = blank(title, xlabel, ylabel)
    for (name, (steps, values)), colour in zip(series.items(), cycle(OKABE_ITO), strict=False):
        steps, values = np.asarray(steps), np.asarray(values, float)
        if smooth:
            axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25)
        axes.plot(steps, running_mean(steps, values, smooth), color=colour, linewidth=2.2, label=name)
    axes.set_yscale("log" if log else "linear")
    axes.margins(x=0.01)
    for name, x in (marks or {}).items():
        axes.axvline(x, color=INK, linewidth=1.4, linestyle="--", label=name)
    if len(series) > 1 or marks:
        axes.legend()
    return picture(axes)


@styled
def against_calls(series: Mapping[str, Sequence[Estimate]], ylabel: str) -> Image.Image:
    """Each one's means against the calls they took, as a line where there are several, with error bars."""
    axes = blank("", "denoiser calls (NFE)", ylabel)
    for (name, points), colour in zip(series.items(), cycle(OKABE_ITO), strict=False):
        nfe, mean, error = (np.asarray(column) for column in zip(*sorted(points), strict=True))
        size = 6 if len(points) > 1 else 11
        axes.errorbar(
            nfe, mean, np.nan_to_num(error), color=colour, label=name, marker="o", markersize=size, capsize=4
        )
    axes.set_xlim(0, None)
    axes.legend()
    return picture(axes)


def gif(frames: Sequence[Image.Image], path: Path, *, milliseconds: int = 250) -> None:
    """An endless loop over `frames`, of which the last stays for two seconds."""
    first, *rest = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    durations = [milliseconds] * len(rest) + [2000]
    with whole_file(Path(path)) as file:
        first.save(file, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def png(image: Image.Image, path: Path) -> None:
    with whole_file(Path(path)) as file:
        image.save(file, "PNG")


def blank(title: str, xlabel: str, ylabel: str, size: tuple[float, float] = SIZE) -> Axes:
    from matplotlib.figure import Figure

    axes = Figure(figsize=size, dpi=DPI, layout="constrained").add_subplot()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return axes


def _whole_numbers(axis: XAxis | YAxis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def _thick_line(axes: Axes, values: NDArray, colour: Colour, width: float, label: str) -> None:
    """A line that stands out from the thin ones under it."""
    axes.plot(values, color="white", linewidth=width + 2.5)
    axes.plot(values, color=colour, linewidth=width, marker="o", markersize=width + 2, label=label)


def picture(axes: Axes) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _tile(image: Float[Tensor, "C H W"], scale: int) -> Image.Image:
    pixels = image.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round().byte()
    shown = pixels[:3] if len(pixels) >= 3 else pixels[:1]  # RGB, or grey
    array = shown.expand(3, -1, -1).permute(1, 2, 0).numpy()  # (H, W, 3)
    return Image.fromarray(array.repeat(scale, 0).repeat(scale, 1))


def _group_colours(groups: NDArray) -> dict[int, Colour]:
    """Groups are ordered (a number of digits): from dark to light, so that they differ without colour too."""
    from matplotlib import colormaps

    present = [int(g) for g in np.unique(groups)]
    viridis = colormaps["viridis"]
    return dict(zip(present, map(viridis, np.linspace(0.05, 0.88, len(present))), strict=True))


def running_mean(steps: NDArray, values: NDArray, window: float) -> NDArray:
    """Mean of the finite values that lie within `window` / 2 steps of each."""
    finite = np.isfinite(values)
    total, count = (np.concatenate([[0.0], np.cumsum(x)]) for x in (np.where(finite, values, 0), finite))
    start = np.searchsorted(steps, steps - window / 2, "left")
    end = np.searchsorted(steps, steps + window / 2, "right")
    return np.where(finite, (total[end] - total[start]) / np.maximum(count[end] - count[start], 1), np.nan)


def _array(x: Tensor) -> NDArray:
    return x.detach().cpu().numpy()
