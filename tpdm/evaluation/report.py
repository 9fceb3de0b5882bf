"""What a finished run shows: the tables, the pictures, summary.json."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tpdm.data.digits import count_digits, real_digits
from tpdm.evaluation.contest import Contest
from tpdm.evaluation.digit_classifier import DigitClassifier
from tpdm.evaluation.frechet import real_floor
from tpdm.evaluation.result import Result
from tpdm.evaluation.table import Judge, Row, render
from tpdm.runtime.plots import curves, png, sample_grid, schedules, steps_by_group

SHOWN = 64  # samples in a grid


def tables(contest: Contest, classifier: DigitClassifier, reference: Result) -> dict[str, list[Row]]:
    """Of all scenes, and of those with digits: an empty one is done in two steps, which flatters a mean."""
    cond = contest.problems.cond.cpu()
    digits = count_digits(cond)
    real, _ = real_digits("test")
    subsets = {"all scenes": digits >= 0}
    if (digits == 0).any():
        subsets["scenes with digits"] = digits > 0
    made = {}
    for name, counted in subsets.items():
        judge = Judge(classifier, real, cond, counted)
        made[name] = [*contest.rows(judge), judge.row("reference (exact ODE)", reference)]
    return made


def captions(made: Mapping[str, Sequence[Row]], classifier: DigitClassifier) -> Iterable[str]:
    floor = real_floor(classifier)
    for name, rows in made.items():
        yield render(
            rows,
            f"{name}: MSE to the end of the exact ODE from the same noise; Frechet distance to held-out real "
            f"digits (real against real: {floor:.3f}).\n"
            "Fixed schedules at the predictor's mean NFE, between whole numbers.",
        )


def draw(contest: Contest, folder: Path) -> None:
    """samples.png with each image's NFE under it, schedules.png, steps.png; the others' have their names."""
    digits = count_digits(contest.problems.cond.cpu())
    for rank, (name, result) in enumerate(contest.shown.items()):
        suffix = f"_{name.replace(' ', '_')}" if rank else ""
        nfe = result.nfe[:SHOWN].tolist()
        grid = sample_grid(result.images[:SHOWN].cpu(), [f"{n} NFE" for n in nfe], columns=8, scale=6)
        png(grid, folder / f"samples{suffix}.png")
        alive = result.t[:, :-1] > 0
        png(schedules(result.t, alive, digits, group_label="digits"), folder / f"schedules{suffix}.png")
        png(steps_by_group(result.nfe.cpu(), digits, "digits in the scene"), folder / f"steps{suffix}.png")


def draw_curves(folder: Path) -> None:
    """loss.png and reward.png (with NFE) from metrics.jsonl."""
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    series: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for entry in entries:
        for key in ("loss", "reward", "nfe", "entropy"):
            if entry.get(key) is not None:
                steps, values = series.setdefault(key, {}).setdefault(entry["stage"], ([], []))
                steps.append(entry["step"])
                values.append(entry[key])
    if "denoiser" in series.get("loss", {}):
        loss = {"denoiser": series["loss"]["denoiser"]}
        png(curves(loss, ylabel="loss", log=True, smooth=50), folder / "loss.png")
    for key in ("reward", "nfe", "entropy"):
        if key in series:
            png(curves(series[key], xlabel="update", ylabel=key, smooth=5), folder / f"{key}.png")
