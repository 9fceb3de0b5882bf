"""What the numbers say, in sentences; beaten is said as beaten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tpdm.arena.standing import LEVEL, Ratio, Standing

TIME = (
    "time_in_calls is how long an image takes beside bare denoiser calls of the same batch, made just before "
    "and just after it, so that what else the machine does counts for both; seconds_per_image is that times "
    "the quickest call, and is only as good as the machine was idle."
)
MET = 0.05  # of a budget: a mean that is nearer than this has met it
AGREE = 0.01  # of the cost: nearer than this the ends of two starts are one schedule
WORDS = {"better": "beats", "worse": "is beaten by", "ties": "ties with", "same": "does the same as"}


def paragraphs(standings: Sequence[Standing], seeds: int, samples: int, baseline: str) -> list[str]:
    """Of all seeds together: what is measured, each adaptive contestant against the static one and against
    its own mean, what to be careful with, and each bound."""
    pooled = [row for row in standings if row.seed is None]
    over = f"{seeds} seed{'s' * (seeds > 1)}"
    measured = (
        f"Errors are mean squared distances to the end of the exact ODE, on {samples} held-out noises and "
        f"conditions over {over}, with {100 * LEVEL:g} % intervals from drawing the samples again. "
        f"The static schedule that all are held against, at the same mean NFE, is {baseline}."
    )
    adaptive = dict.fromkeys(row.contestant for row in pooled if row.kind == "adaptive")
    of_each = [both([row for row in pooled if row.contestant == name], baseline) for name in adaptive]
    warnings = [*missed(pooled, baseline), *beaten_static(pooled, baseline)]
    return [measured, *of_each, *warnings, *bounds(pooled)]


def both(rows: Sequence[Standing], baseline: str) -> str:
    """Of one contestant, against the baseline and against its own mean, which is told where it does anything
    but what the baseline does."""
    name, found = rows[0].contestant, {row.target: row.against_static for row in rows}
    own = {row.target: row.against_mean for row in rows if row.against_mean and not row.against_static.same}
    told = [
        told_of(name, of, other) for of, other in ((found, baseline), (own, "its own mean schedule")) if of
    ]
    return " ".join(told)


def told_of(name: str, of: Mapping[int, Ratio], other: str) -> str:
    """`adaptive beats table, with 8.1 % less error (5.0 to 11.2) at NFE 6; ties with it at NFE 4
    (2.0 % less to 1.1 % more error); does the same as it at NFE 2, 3.`"""
    parts: list[str] = []
    for outcome, word in WORDS.items():
        at = {n: found for n, found in of.items() if outcome == ("same" if found.same else found.verdict)}
        if at:
            object_ = other if not parts else "it"
            parts.append(f"{word} {object_}{told_at(outcome, at)}")
    return f"{name} {'; '.join(parts)}."


def told_at(outcome: str, at: Mapping[int, Ratio]) -> str:
    """The budgets of one outcome, each with what there is to say."""
    if outcome == "same":
        return f" at NFE {', '.join(map(str, at))}"
    if outcome == "ties":
        return " at NFE " + ", ".join(f"{n} ({either_way(found)})" for n, found in at.items())
    return ", with " + ", ".join(f"{margin(found)} at NFE {n}" for n, found in at.items())


def margin(ratio: Ratio) -> str:
    """How much less or more error, in per cent of the other's, with its interval; how many times, where it is
    surely over twice as much."""
    if ratio.low > 2:
        return f"{ratio.value:.1f} times the error ({ratio.low:.1f} to {ratio.high:.1f})"
    ends = sorted(abs(100 * (1 - x)) for x in (ratio.low, ratio.high))
    sense = "less" if ratio.value < 1 else "more"
    return f"{abs(100 * (1 - ratio.value)):.1f} % {sense} error ({ends[0]:.1f} to {ends[1]:.1f})"


def either_way(ratio: Ratio) -> str:
    """The interval of a tie: one that few samples leave open is not one that is close."""
    return f"{100 * (1 - ratio.low):.1f} % less to {100 * (ratio.high - 1):.1f} % more error"


def missed(pooled: Sequence[Standing], baseline: str) -> list[str]:
    """A warning where a contestant's calls are not those of its budget."""
    far = [row for row in pooled if abs(row.nfe - row.target) > MET * row.target]
    if not far:
        return []
    at = "; ".join(f"{row.contestant}, with {row.nfe:.2f} calls at NFE {row.target}" for row in far)
    return [f"Held against {baseline} at mean calls that miss the budget by over {100 * MET:.0f} %: {at}."]


def beaten_static(pooled: Sequence[Standing], baseline: str) -> list[str]:
    """A warning for every other static schedule that is better than the one all are held against."""
    others = [row for row in pooled if row.kind == "static" and row.contestant != baseline]
    if not others:
        return []
    better = [
        f"{row.contestant}, with {margin(row.against_static)} at NFE {row.target}"
        for row in others
        if row.against_static.verdict == "better"
    ]
    if not better:
        return [f"No other static contestant beats {baseline} anywhere."]
    return [f"{baseline} is not the best static contestant: it is beaten by {'; '.join(better)}."]


def bounds(pooled: Sequence[Standing]) -> list[str]:
    named = list(dict.fromkeys(row.contestant for row in pooled if row.kind == "bound"))
    return [
        f"{name}, which knows every error beforehand and is the best that a choice like its can be, gains "
        + ", ".join(
            f"{gain(row.against_static)} at NFE {row.target}" for row in pooled if row.contestant == name
        )
        + "."
        for name in named
    ]


def gain(ratio: Ratio) -> str:
    return f"{100 * (1 - ratio.value):.1f} % ({100 * (1 - ratio.high):.1f} to {100 * (1 - ratio.low):.1f})"


def spoken(value: Any) -> str:
    """What was found, or made it, for a reader: `levels 1, 0.8227, 0`, `price 0.0004687`, `better yes`."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {spoken(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        return (" and " if nested else ", ").join(map(spoken, value))
    return str(value)


def agreement(baseline: str, gaps: Mapping[int, float]) -> list[str]:
    """How well the starts of the baseline's search agree: by what the next best ended above the best."""
    if not gaps:
        return []
    far = {n: gap for n, gap in gaps.items() if gap > AGREE}
    told = (
        f"Of several starts of the search of {baseline}, the two best end within {100 * AGREE:.0f} % in cost"
    )
    if not far:
        return [f"{told} for every number of steps from {min(gaps)} to {max(gaps)}."]
    at = ", ".join(f"{n} ({100 * gap:.1f} %)" for n, gap in far.items())
    return [f"{told} but for these numbers of steps: {at}."]


def convexity(baseline: str, errors: Sequence[float]) -> list[str]:
    """Whether the error after 1, 2, ... steps falls convexly, as that of a table that is not stuck does. Of
    one or two that fall there is nothing to tell."""
    falls = [before - after for before, after in pairwise(errors)]
    rises = [n for n, fall in enumerate(falls, 2) if fall < 0]
    bends = [n for n, (fall, next_fall) in enumerate(pairwise(falls), 2) if fall < next_fall]
    if rises or bends:
        found = [("rises at", rises), ("is not convex at", bends)]
        told = " and ".join(f"{word} {', '.join(map(str, at))}" for word, at in found if at)
        return [f"The error of {baseline} {told} steps: its search may be stuck there."]
    if len(errors) < 3:
        return []
    return [f"The error of {baseline} falls convexly from 1 to {len(errors)} steps."]
