"""A page of one file: tables that can be sorted, a scatter plot, pictures."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

WIDTH, HEIGHT, MARGIN = 720, 420, 70
SMALL, LARGE = 128, 256  # sides of a thumbnail in pixels
STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
table { border-collapse: collapse }
td, th { padding: .3em .7em; border-bottom: 1px solid #d9d9d9; text-align: right }
th { cursor: pointer; user-select: none } td:first-child, th:first-child, td.words { text-align: left }
figure { display: inline-block; margin: 1em 1em 0 0 } img { max-width: 20em; image-rendering: pixelated }
figure.tile { width: 11em; margin: 0 .8em .8em 0; font-size: .8em; vertical-align: bottom }
.tile img { width: 100%; image-rendering: auto } .plot img { max-width: 100%; image-rendering: auto }
circle { fill: #0072b2; fill-opacity: .75 } circle:hover { fill: #d55e00 } svg { max-width: 100% }
"""
SORT = """
document.querySelectorAll("th").forEach(head => head.onclick = () => {
  const body = head.closest("table").tBodies[0], up = head.dataset.up = head.dataset.up === "1" ? "0" : "1"
  const key = row => row.cells[head.cellIndex].dataset.value
  const number = row => key(row) === "" ? Infinity : Number(key(row))
  const words = [...body.rows].some(row => isNaN(Number(key(row))))
  const order = words ? (a, b) => key(a).localeCompare(key(b)) : (a, b) => number(a) - number(b)
  body.append(...[...body.rows].sort((a, b) => (up === "1" ? 1 : -1) * order(a, b)))
})
"""


@dataclass(frozen=True)
class Point:
    name: str
    x: float
    y: float


def page(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    points: Sequence[Point],
    axes: tuple[str, str],
    pictures: Mapping[str, str | None],
) -> str:
    """HTML that asks for no other file. `pictures` are base64 PNGs by their caption."""
    known = {name: f"data:image/png;base64,{png}" for name, png in pictures.items() if png is not None}
    return document(title, table(rows), scatter(points, axes), gallery(known))


def document(title: str, *parts: str) -> str:
    """The parts below each other."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{''.join(parts)}<script>{SORT}</script></html>\n"
    )


def paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def gallery(pictures: Mapping[str, str], heading: str = "", kind: Literal["", "tile", "plot"] = "") -> str:
    """Figures beside each other; `pictures` are addresses of images by their captions."""
    above = f"<h3>{html.escape(heading)}</h3>" if heading else ""
    return above + "".join(
        f'<figure class="{kind}"><figcaption>{html.escape(name)}</figcaption>'
        f'<img alt="" src="{url}"></figure>'
        for name, url in pictures.items()
    )


def embedded(image: Image.Image) -> str:
    """The image itself as an address."""
    return _address(image, "PNG")


def thumbnail(image: Image.Image) -> str:
    """The same of a size to be looked at: a large one made small, the pixels of a small one squares."""
    if max(image.size) > LARGE:
        image = image.copy()
        image.thumbnail((LARGE, LARGE))
        return _address(image, "JPEG")
    factor = max(1, SMALL // max(image.size))
    return _address(
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST), "PNG"
    )


def _address(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, quality=90)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def table(rows: Sequence[Mapping[str, Any]], heading: str = "") -> str:
    """A click on a column's head sorts by it."""
    above = f"<h3>{html.escape(heading)}</h3>" if heading else ""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{html.escape(key)}</th>" for key in keys)
    body = "".join(f"<tr>{''.join(_cell(row.get(key)) for key in keys)}</tr>" for row in rows)
    return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    shown = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    exact = "" if value is None else str(value)
    kind = ' class="words"' if isinstance(value, str) else ""
    return f'<td data-value="{html.escape(exact)}"{kind}>{html.escape(shown)}</td>'


def scatter(points: Sequence[Point], axes: tuple[str, str]) -> str:
    """An SVG; y is logarithmic where all are positive. A point tells its name when it is pointed at."""
    if not points:
        return ""
    log = all(point.y > 0 for point in points)
    heights = [math.log10(point.y) if log else point.y for point in points]
    xs, ys = _scale([p.x for p in points], MARGIN, WIDTH - 20), _scale(heights, HEIGHT - MARGIN, 20)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6">'
        f"<title>{html.escape(p.name)}: {p.x:.4g}, {p.y:.4g}</title></circle>"
        f'<text x="{x + aside:.1f}" y="{y + 4:.1f}" font-size="11" text-anchor="{anchor}">'
        f"{html.escape(p.name)}</text>"
        for p, x, y in zip(points, xs, ys, strict=True)
        for aside, anchor in [(9, "start") if x < WIDTH / 2 else (-9, "end")]  # inside the picture
    )
    ends = _ends(points)
    frame = f"M{MARGIN} 20V{HEIGHT - MARGIN}H{WIDTH - 20}"
    below, beside = (html.escape(axis) for axis in axes)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"><path d="{frame}" fill="none" stroke="#222"/>'
        f'{ends}<text x="{WIDTH / 2}" y="{HEIGHT - 20}" text-anchor="middle">{below}</text>'
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{beside}</text>'
        f"{marks}</svg>"
    )


def _ends(points: Sequence[Point]) -> str:
    """The least and the greatest value beside each axis, where the outermost points stand."""
    x, y = sorted(p.x for p in points), sorted(p.y for p in points)
    across, up = _scale([0, 1], MARGIN, WIDTH - 20), _scale([0, 1], HEIGHT - MARGIN, 20)
    texts = [
        f'<text x="{at:.0f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{value:.3g}</text>'
        for at, value in zip(across, (x[0], x[-1]), strict=True)
    ] + [
        f'<text x="{MARGIN - 6}" y="{at + 4:.0f}" text-anchor="end">{value:.2g}</text>'
        for at, value in zip(up, (y[0], y[-1]), strict=True)
    ]
    return "".join(texts)


def _scale(values: Sequence[float], start: float, end: float) -> list[float]:
    """Into [start, end], a tenth of it free at both ends."""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return [start + (end - start) * (0.1 + 0.8 * (value - low) / span) for value in values]
