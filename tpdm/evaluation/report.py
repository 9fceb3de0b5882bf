"""The pictures of a finished run."""

import json
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from tpdm.evaluation.contest import Contest
from tpdm.runtime.plots import curves, png, samples, schedules, steps_by_group

SHOWN = 64  # samples in a grid


class Groups(NamedTuple):
    """Kinds of samples, by numbers that are ordered."""

    of: Int[Tensor, "B"]
    name: str
    axis: str


def draw(contest: Contest, groups: Groups | None, folder: Path) -> None:
    """samples.png with each image's NFE under it, schedules.png, and steps.png where there are groups; those
    of all but the first contestant have their names."""
    for rank, (name, result) in enumerate(contest.shown.items()):
        suffix = f"_{name.replace(' ', '_')}" if rank else ""
        shown = samples(result.images[:SHOWN], result.nfe[:SHOWN], columns=8)
        png(shown, folder / f"samples{suffix}.png")
        alive = result.t[:, :-1] > 0
        of, label = (groups.of, groups.name) if groups else (None, "")
        png(schedules(result.t, alive, of, group_label=label), folder / f"schedules{suffix}.png")
        if groups:
            png(steps_by_group(result.nfe.cpu(), groups.of, groups.axis), folder / f"steps{suffix}.png")


def draw_curves(folder: Path) -> None:
    """loss.png, and of a predictor reward.png (with NFE), of a codec psnr.png, from metrics.jsonl."""
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    series: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for entry in entries:
        for key in ("loss", "psnr", "reward", "nfe", "entropy"):
            if entry.get(key) is not None:
                steps, values = series.setdefault(key, {}).setdefault(entry["stage"], ([], []))
                steps.append(entry["step"])
                values.append(entry[key])
    loss = {stage: of for stage, of in series.get("loss", {}).items() if stage in ("denoiser", "codec")}
    if loss:
        png(curves(loss, ylabel="loss", log=True, smooth=50), folder / "loss.png")
    for key in ("psnr", "reward", "nfe", "entropy"):
        if key in series:
            png(curves(series[key], xlabel="update", ylabel=key, smooth=5), folder / f"{key}.png")
