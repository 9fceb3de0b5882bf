"""What `evaluate` does with prompts: every schedule draws the same images, and rewards judge them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tpdm.data.prompts import read_prompts
from tpdm.evaluation.comparison import Comparison
from tpdm.evaluation.records import Record, Records, finite
from tpdm.evaluation.result import Run
from tpdm.evaluation.schedule import along, dealt, even, uniform
from tpdm.finished import FIGURES, FinishedRun
from tpdm.jury import reward_words, rewards, without
from tpdm.predictor.budget import check_cap
from tpdm.reward.pixels import eight_bits
from tpdm.runtime.artifact import artifact_sha256
from tpdm.runtime.atomic import write_json, write_text
from tpdm.runtime.command import command_line, settings, text
from tpdm.runtime.memory import memory_of
from tpdm.runtime.plots import png
from tpdm.runtime.progress import Progress
from tpdm.runtime.provenance import commit, provenance
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.batched import walks
from tpdm.sampler.noise import generators, initial_noise
from tpdm.sampler.reference import reference
from tpdm.scheduler.flow import Flow
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Condition

Config = Mapping[str, Any]
OWN, MEAN, UNIFORM = "predictor", "mean NFE", "mean NFE uniform"
UNSAID = {"batch_size": 4, "samples": 1, "seed": 0, "steps": [6, 8, 12, 20, 28], "own_rewards": True}
ONLY = (  # settings that mean nothing without prompts
    "samples", "seed", "steps", "own_rewards", "max_steps", "guidance_scale", "out", "reward", "clip",
)  # fmt: skip
REPEATED = (  # settings by which a command makes the same figures
    "run", "prompts", "samples", "seed", "steps", "nfe", "cost", "max_nfe", "ema", "own_rewards",
    "batch_size", "device", "out",
)  # fmt: skip


def asked_for(cfg: Config) -> list[str] | None:
    """The prompts, each as often as images of it are drawn; None: the run's own contest is to be repeated.

    Raises ValueError where two things are asked for, or there is no prompt in the file.
    """
    both = [key for key in ("suite", "prompt", "prompts") if cfg[key] is not None]
    if len(both) > 1:
        raise ValueError(f"{' and '.join(both)} are given; give one of suite, prompt=TEXT and prompts=FILE")
    if cfg["prompt"] is None and cfg["prompts"] is None:
        check_alone(cfg)
        return None
    given = [cfg["prompt"]] if cfg["prompts"] is None else read_prompts(Path(cfg["prompts"]), "prompts")
    if not given or not given[0].strip():
        key = "prompt" if cfg["prompts"] is None else "prompts"
        raise ValueError(f"{key}={cfg[key]} has no prompt; write one, or one a line")
    return [prompt for prompt in given for _ in range(said(cfg)["samples"])]


def said(cfg: Config) -> dict[str, Any]:
    """The settings, with what is meant where nothing is said."""
    return {**cfg, **{key: value for key, value in UNSAID.items() if cfg[key] is None}}


def check_alone(cfg: Config) -> None:
    """Raises ValueError for settings of prompts where there are none, and for a budget of a suite's own."""
    for key in ONLY:
        if (value := cfg[key]) is not None:
            given = f"{key}={text(value['name'] if isinstance(value, Mapping) else value)}"
            raise ValueError(f"{given} is a setting for prompt=TEXT or prompts=FILE, and neither is given")
    for key in ("nfe", "cost", "max_nfe"):
        if cfg["suite"] is not None and cfg[key] is not None:
            suite = cfg["suite"]["name"]
            raise ValueError(f"{key}={cfg[key]:g} is no setting for suite={suite}; leave it out")


def judge(finished: FinishedRun, cfg: Config, prompts: Sequence[str]) -> None:
    """Draws what is left to draw; writes results into a folder, and the figures of a file into the run."""
    judging = Judging(finished, said(cfg), prompts)
    comparison = judging.compare()
    folder = judging.records.folder
    drawn = comparison.plots()
    for name, image in drawn.items():
        png(image, folder / f"{name}.png")
    figures = {**comparison.figures(), **judging.recipe()}
    record = {"figures": figures, "schedules": comparison.rows(), **provenance()}
    write_text(folder / "results.csv", comparison.as_csv())
    write_text(folder / "report.html", comparison.page(figures["command"], drawn, judging.records))
    write_json(folder / FIGURES, record)
    measured = cfg["prompts"] is not None and cfg["ema"]  # one prompt is a look, a file of them a measurement
    if measured and finished.run.is_writable:
        finished.run.write_json(FIGURES, record)
    elif measured:
        print(f"{finished.run.folder} may not be written, so that its model card will not tell these figures")
    print(f"{comparison.as_text()}\n{folder}: report.html, results.csv, and the images")


class Judging:
    """Images 0, 1, ... of the prompts, whose seeds are counted from `seed`; every schedule draws all of them.

    Constructed, it has made sure that everything is there. Raises ValueError where it is not.
    """

    def __init__(self, finished: FinishedRun, cfg: Config, prompts: Sequence[str]):
        check(finished)
        self.finished, self.cfg, self.prompts = finished, cfg, prompts
        self.seeds = range(cfg["seed"], cfg["seed"] + len(prompts))
        generators(self.seeds[-1:])  # refuses what is no seed
        own, given = finished.cfg, cfg["guidance_scale"]
        self.guidance_scale: float = own["guidance_scale"] if given is None else given
        steps = {} if cfg["max_steps"] is None else {"max_steps": cfg["max_steps"]}
        self.settings = {**own["sampler"], **steps}
        self.budget = {key: cfg[key] for key in ("nfe", "cost", "max_nfe")}
        check_cap(cfg["nfe"], cfg["max_nfe"])
        self.sampler: AdaptiveSampler = finished.sampler(self.settings, None, **self.budget)
        self.denoiser = finished.assembly.guided(finished.denoiser, self.guidance_scale, own["guidance"])
        self.judges, self.rewards = rewards(finished.run.config or {}, cfg, finished.device)
        self.ends: dict[int, Tensor] = {}  # of the exact ODE, by seed
        self.records = Records.open(self.folder, self.deciding())

    def deciding(self) -> dict[str, Any]:
        """All that an image and its scores depend on; other fixed schedules may join them later."""
        folder = self.finished.run.folder
        return {
            "prompts": f"{len(self.prompts)} of sha256 {sha256(list(self.prompts))}",
            "seed": self.cfg["seed"],
            "denoiser": artifact_sha256(folder / ("denoiser" if self.cfg["ema"] else "denoiser_raw")),
            "predictor": artifact_sha256(folder / "predictor"),
            "sampler": self.settings,
            **self.budget,
            "guidance_scale": self.guidance_scale,
            "rewards": {name: without(judge, "batch_size") for name, judge in self.judges.items()},
        }

    @property
    def folder(self) -> Path:
        """The one that was asked for, or one of these settings' own."""
        if self.cfg["out"] is not None:
            return Path(self.cfg["out"])
        return self.finished.results / f"prompts_{sha256(self.deciding())}"

    def recipe(self) -> dict[str, Any]:
        """What the figures were made with: a command that draws the same, and finds it drawn."""
        chosen = {key: self.cfg[key] for key in REPEATED if self.cfg[key] is not None}
        chosen |= {"max_steps": self.settings["max_steps"], "guidance_scale": self.guidance_scale}
        asked = [] if self.cfg["prompt"] is None else [f"prompt={self.cfg['prompt']}"]  # no grammar
        words = [*settings(chosen), *asked, *reward_words(self.cfg)]
        return {"command": command_line("tpdm.evaluate", words), "commit": commit() or "unknown"}

    @cached_property
    def cond(self) -> Condition:
        """Encoded at the first use: a finished folder asks for none."""
        return self.finished.encoded(list(self.prompts))

    def compare(self) -> Comparison:
        """The predictor first, since fixed schedules are to take as many calls as it took."""
        path, count = by_noise_level(self.denoiser.scheduler), len(self.prompts)
        fixed = {f"{n} steps": even(path, [n] * count) for n in sorted(set(self.cfg["steps"]))}
        bent = not isinstance(path, Flow) or path.shift != 1  # elsewhere the two are one
        with Progress((len(fixed) + 2 + bent) * count, "images") as progress:
            of = {OWN: self.drawn(OWN, partial(self.sampler, self.denoiser), progress)}
            counts = dealt(sum(record.nfe for record in of[OWN]), count)
            matched = {MEAN: even(path, counts)} | ({UNIFORM: uniform(path, counts)} if bent else {})
            for name, times in (fixed | matched).items():
                run = along(self.denoiser, self.sampler.step, times, self.seeds)
                of[name] = self.drawn(name, run, progress)
        return Comparison(of, list(fixed), MEAN, list(self.rewards))

    def drawn(self, schedule: str, run: Run, progress: Progress) -> list[Record]:
        """A record of every image: those that an earlier start left, and the others drawn now."""
        found = {image: self.records.find(schedule, image) for image in range(len(self.prompts))}
        left = [image for image, record in found.items() if record is None]
        for _ in range(len(found) - len(left)):
            progress.advance()
        if left:
            for record in self.draw(schedule, run, left):
                found[record.image] = record
                progress.advance()
        return [record for record in found.values() if record is not None]

    @torch.no_grad()
    def draw(self, schedule: str, run: Run, images: Sequence[int]) -> Iterator[Record]:
        """Draws them in batches and keeps each, whatever happens to the next batch."""
        assembly, device, size = self.finished.assembly, self.finished.device, self.cfg["batch_size"]
        seeds, cond = [self.seeds[image] for image in images], self.cond[list(images)]
        with memory_of(size, "images", "batch_size"):
            for part, walk in walks(run, seeds, cond, assembly.shape, size, device):
                pixels = assembly.codec.decode(walk.x0)
                self.check_finite(schedule, images[part], pixels)
                scores = self.scores(pixels, seeds[part], cond[part])
                for row, image in enumerate(images[part]):
                    nfe = int(walk.nfe[row])
                    times = walk.t[row, : nfe + 1].tolist()
                    score = {name: finite(values[row]) for name, values in scores.items()}
                    record = Record(
                        image, self.prompts[image], self.seeds[image], schedule, nfe, times, score
                    )
                    self.records.keep(record, picture(pixels[row]))
                    yield record

    def check_finite(self, schedule: str, images: Sequence[int], pixels: Tensor) -> None:
        """Raises ValueError for an image that is none, before it is judged or kept."""
        whole = pixels.isfinite().flatten(1).all(1).tolist()
        for image in (image for image, fine in zip(images, whole, strict=True) if not fine):
            raise ValueError(
                f"image {image} ({schedule}) is not finite; guidance_scale={self.guidance_scale:g} may be "
                "too strong, or the run's inference_dtype too narrow"
            )

    def scores(self, pixels: Tensor, seeds: Sequence[int], cond: Condition) -> dict[str, list[float]]:
        """What every reward says of these images."""
        prompts = [self.prompts[seed - self.seeds[0]] for seed in seeds]
        needed = any(reward.uses_target for reward in self.rewards.values())
        target = self.target(seeds, cond) if needed else None
        return {name: reward(pixels, cond, target, prompts).tolist() for name, reward in self.rewards.items()}

    def target(self, seeds: Sequence[int], cond: Condition) -> Tensor:
        """Where the exact ODE takes the noises of these seeds, as images."""
        if any(seed not in self.ends for seed in seeds):
            noise = initial_noise(seeds, self.finished.assembly.shape).to(self.finished.device)
            steps = (self.finished.run.config or {})["predictor_trainer"]["reference_steps"]
            ends = reference(self.denoiser, noise, cond.to(self.finished.device), steps)
            self.ends |= zip(seeds, self.finished.assembly.codec.decode(ends), strict=True)
        return torch.stack([self.ends[seed] for seed in seeds])


def check(finished: FinishedRun) -> None:
    """Raises ValueError where a run draws nothing from prompts, or has no predictor to judge."""
    folder = finished.run.folder
    if not finished.reads_captions:
        raise ValueError(f"run={folder} was trained on labels, not on prompts; leave out prompt and prompts")
    if finished.cfg["predictor"] is None:
        raise ValueError(f"run={folder} was trained with predictor=none, so there is no predictor to judge")


def picture(pixels: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1]; of latents that no codec decodes, the first three channels."""
    return Image.fromarray(eight_bits(pixels[None, :3])[0].byte().permute(1, 2, 0).cpu().numpy())


def sha256(value: Any) -> str:
    """Its first letters, of what JSON makes of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
