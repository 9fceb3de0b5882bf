"""Which samples `python -m tpdm.sample` is asked for, and the picture of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from tpdm.assembly import device_of
from tpdm.exporting import Remembering, check_exportable, export
from tpdm.finished import SUMMARY, FinishedRun
from tpdm.predictor.budget import check_cap
from tpdm.published import Published
from tpdm.published_pipeline import PublishedPipeline
from tpdm.registry import facts, lookup
from tpdm.runtime.atomic import whole_file
from tpdm.runtime.memory import memory_of
from tpdm.runtime.plots import png, samples
from tpdm.sampler.noise import generators
from tpdm.types import Condition, cat_conditions

Source = FinishedRun | Published | PublishedPipeline
SOURCES = {"run": "run=FOLDER", "checkpoint": "checkpoint=FILE", "model": "model=sd3"}
SETTINGS = {
    "codec": ("checkpoint", "model"),
    "num_heads": ("checkpoint",),
    "predictor": ("model",),
    "scheduler": ("model",),
}
RGB = 3  # channels that a picture can show


def draw(cfg: dict[str, Any]) -> None:
    """Draws the seeds asked for and writes them as one picture, with the calls that each one took."""
    if cfg["out"] and Path(cfg["out"]).suffix.lower() != ".png":
        raise ValueError(f"out={cfg['out']} does not end in .png, which is what pictures are written as")
    spans = parse_seeds(cfg["seeds"])
    columns = parse_grid(cfg["grid"], sum(span.stop - span.start for span in spans))
    seeds = [seed for span in spans for seed in span]
    check_asked(cfg, len(seeds))
    finished = opened(cfg)
    finished.cfg |= {key: cfg[key] for key in ("guidance_scale", "guidance") if cfg[key] is not None}
    asked = asked_of(finished, cfg, seeds)
    settings = with_steps(cfg["sampler"] or finished.cfg["sampler"], cfg["steps"])
    folder = Path(cfg["predictor_folder"]) if cfg["predictor_folder"] else None
    sampler = finished.sampler(settings, folder, **asked_budget(cfg, settings["name"]))
    if cfg["export"]:
        check_exportable(finished.denoiser.scheduler)
        sampler = Remembering(sampler)

    cond = finished.encoded(asked)  # last, since it may take minutes
    with memory_of(min(len(seeds), cfg["batch_size"]), "images", "batch_size"):
        guided = finished.cfg["guidance_scale"], finished.cfg["guidance"]
        images, nfe = finished.sample(sampler, seeds, cond, *guided, cfg["batch_size"])
    path = Path(cfg["out"]) if cfg["out"] else finished.picture(settings["name"])
    path.parent.mkdir(parents=True, exist_ok=True)
    if images.shape[1] > RGB:
        keep_latents(path.with_suffix(".safetensors"), images)
    png(samples(images, nfe, columns=columns), path)
    print(f"{path}: {len(seeds)} images, mean NFE {nfe.float().mean():.2f}")
    if isinstance(sampler, Remembering):
        export(path.with_suffix(""), sampler.mean().tolist())
        print(f"{path.with_suffix('')}: their mean schedule for diffusers")


def opened(cfg: dict[str, Any]) -> Source:
    """Where the samples come from. Raises ValueError where that is not one place, or is not there."""
    given = [key for key in SOURCES if cfg[key] is not None]
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} exclude each other; give run=VALUE, or checkpoint=FILE for a published "
            "model, or model=sd3 model.path=FOLDER for a pipeline of diffusers"
        )
    check_belongs(cfg, given[0] if given else "run")
    device = device_of(cfg["device"])
    if cfg["model"] is not None:
        return PublishedPipeline(cfg, device)
    if cfg["checkpoint"] is not None:
        path = Path(cfg["checkpoint"])
        return Published(path, device, cfg["ema"], cfg["num_heads"], cfg["codec"])
    return FinishedRun.open(cfg["run"] or str(newest(Path(cfg["runs"]))), device, cfg["ema"])


def check_belongs(cfg: dict[str, Any], source: str) -> None:
    """Raises ValueError for a setting that another source has."""
    for key, owners in SETTINGS.items():
        if cfg[key] is not None and source not in owners:
            named = " or ".join(SOURCES[owner] for owner in owners)
            raise ValueError(f"{key} is a setting for {named}; {SOURCES[source]} has its own")


def newest(runs: Path) -> Path:
    """The run that was finished last; its name is printed. ValueError where there is none."""
    finished = sorted(runs.glob(f"*/{SUMMARY}"), key=lambda path: path.stat().st_mtime_ns)
    if not finished:
        raise ValueError(
            f"run is missing; give it as run=VALUE, or checkpoint=FILE for a published model; "
            f"without either, the newest finished run of runs={runs} is taken, and there is none"
        )
    print(f"run: {finished[-1].parent}", flush=True)
    return finished[-1].parent


def keep_latents(path: Path, latents: Tensor) -> None:
    """Beside a picture that shows three channels of them."""
    with whole_file(path) as file:
        file.write(safetensors.torch.save({"latents": latents.contiguous()}))


def parse_seeds(seeds: int | str | list[int | str]) -> list[range]:
    """A seed, a span such as 0-63, or several of both; not counted out, as they may be too many."""
    parts = seeds.split(",") if isinstance(seeds, str) else seeds if isinstance(seeds, list) else [seeds]
    matches = [re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", str(part)) for part in parts]
    spans = [range(int(match[1]), int(match[2] or match[1]) + 1) for match in matches if match]
    if not spans or len(spans) < len(parts) or any(span.stop <= span.start for span in spans):
        raise ValueError(f"seeds={seeds!r} is not understood; accepted: 7, 0-63 or [1,5,8-11]")
    return spans


def parse_grid(grid: str, count: int) -> int:
    """Columns of a "rows x columns" picture that has room for `count` images."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", grid)
    if not match:
        raise ValueError(f"grid={grid!r} is not understood; accepted: ROWSxCOLUMNS, such as 8x8")
    rows, columns = int(match[1]), int(match[2])
    if rows * columns < count:
        raise ValueError(f"grid={grid} has room for {rows * columns} images, but seeds asks for {count}")
    return columns


def check_asked(cfg: dict[str, Any], count: int) -> None:
    """Raises ValueError where more than one of prompt, prompts and labels is given, or not one for each."""
    given = [key for key in ("prompt", "prompts", "labels") if cfg[key] is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; give one of prompt, prompts and labels")
    if cfg["prompts"] is not None and len(cfg["prompts"]) != count:
        raise ValueError(
            f"prompts has {len(cfg['prompts'])}, but seeds asks for {count} images; give as many"
        )


def asked_of(source: Source, cfg: dict[str, Any], seeds: Sequence[int]) -> Any:
    """Labels or captions of each seed. The data are looked at only where they have to say something."""
    prompts = [cfg["prompt"]] * len(seeds) if cfg["prompt"] is not None else cfg["prompts"]
    if prompts is None:
        return conditions(source.data(), cfg["labels"], seeds)
    if not source.reads_captions:
        raise ValueError("prompt is given, but what is drawn from reads none; give labels")
    return prompts


def conditions(data: Any, labels: list[Any] | None, seeds: Sequence[int]) -> Condition | list[str]:
    """Of each seed: the same labels for all, a list for each, or what the test set has, drawn by the seed."""
    if labels is None:
        drawn = [data.batch(1, generator)[1] for generator in generators(seeds, stream=3)]
        return [row[0] for row in drawn] if isinstance(drawn[0], list) else cat_conditions(drawn)
    if data.cond is None:
        raise ValueError("labels are given, but this run was trained with captions; give prompt")
    nested = any(isinstance(label, list) for label in labels)
    rows = [row if isinstance(row, list) else [row] for row in labels] if nested else [labels]
    cond = torch.cat([data.parse_labels(row) for row in rows])
    if len(cond) == 1:
        return cond.expand(len(seeds), -1)
    if len(cond) != len(seeds):
        raise ValueError(
            f"labels are given for {len(cond)} images, but seeds asks for {len(seeds)}; give one or as many"
        )
    return cond


def asked_budget(cfg: dict[str, Any], sampler: str) -> dict[str, Any]:
    """How many calls samples may take that each take their own. Raises ValueError where the sampler takes
    no budget: one that does can be held to `max_nfe`."""
    asked = {key: cfg[key] for key in ("nfe", "cost", "max_nfe")}
    for key, value in asked.items():
        if value is not None and "max_nfe" not in facts(lookup("sampler", sampler)):
            raise ValueError(
                f"{key}={value:.15g} is a budget, and sampler={sampler} takes none: use steps, or a sampler "
                "that shares calls out, adaptive or allocated"
            )
    check_cap(asked["nfe"], asked["max_nfe"])
    return asked


def with_steps(sampler: dict[str, Any], steps: int | None) -> dict[str, Any]:
    """The sampler's config with another number of steps; at most so many where the last one may end before
    the data. Raises ValueError where each image has its own number: the most would end it by a leap.
    """
    name, ends_early = sampler["name"], sampler.get("end") == "residual"
    if steps is None or "num_steps" in sampler or ends_early:
        return sampler if steps is None else {**sampler, "max_steps" if ends_early else "num_steps": steps}
    instead = "sampler.tolerance=NUMBER"
    if "max_nfe" in facts(lookup("sampler", name)):
        instead = f"max_nfe={steps}, which no image exceeds, or a mean, nfe={steps}"
    raise ValueError(
        f"steps={steps} is of a grid, and sampler={name} gives each image its own number; use {instead}"
    )
