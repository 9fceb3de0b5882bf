"""A finished run, opened again from its files to sample from it and to evaluate it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypedDict, get_type_hints

import torch
from torch import Tensor

from tpdm.assembly import DTYPES, load_denoiser, load_predictor
from tpdm.evaluation.digit_classifier import CLASSIFIER, can_read, kept_digit_classifier
from tpdm.predictor.budget import BUDGET, at_budget, check_cap
from tpdm.registry import Component, NonNegative, build, facts, lookup, validate
from tpdm.runtime.artifact import artifact_sha256, config_sha256, read_artifact_config
from tpdm.runtime.atomic import read_record, write_json
from tpdm.runtime.provenance import provenance
from tpdm.runtime.run import CONFIG, Run
from tpdm.sampler.batched import in_batches
from tpdm.sampler.integrate import Step
from tpdm.sampler.step import abm
from tpdm.types import Condition, CondSpec

SUMMARY = "summary.json"
FIGURES = "figures.json"  # of a predictor that was judged by prompts, for its model card
PREDICTORS = {"predictor": "predictor", "time_only": "sees only t"}  # folder: name in the table


class FinishedRun:
    """The frozen parts of a run. Raises ValueError where its files are missing, cut short or changed."""

    def __init__(self, run: Run, device: torch.device, ema: bool = True):
        self.run, self.cfg, self.device = run, settings_of(run), device
        self.results = run.folder if ema else run.folder / "raw"  # where tables and pictures go
        self.weights = run.folder / ("denoiser" if ema else "denoiser_raw")
        dtype = DTYPES[self.cfg["inference_dtype"]]
        self.assembly, self.denoiser = load_denoiser(self.weights, device, dtype)

    @classmethod
    def open(cls, folder: str, device: torch.device, ema: bool) -> "FinishedRun":
        """The run in `folder`. Raises ValueError where that is no run, or a stage of it is still to come."""
        run = Run.open(Path(folder))
        check_finished(run)
        return cls(run, device, ema)

    def predictor(self, folder: Path) -> Any:
        """A predictor that was trained on this run's denoiser."""
        features = self.denoiser.backbone.features
        return load_predictor(folder, self.run.folder / "denoiser", features, self.device)

    @property
    def step(self) -> Step:
        """The one that the run takes; the default, where diffusers' solvers take theirs."""
        own = self.cfg["sampler"].get("step")
        step: Step = abm if own is None else build("sampler/step", own)
        return step

    def asked(self, folder: Path, nfe: float | None = None, cost: float | None = None) -> Any:
        """The same at a mean `nfe`, or told a `cost`; ValueError where it takes none."""
        return at_budget(self.predictor(folder), read_artifact_config(folder), nfe, cost)

    def sampler(
        self,
        cfg: dict[str, Any],
        predictor: Path | None,
        nfe: float | None = None,
        cost: float | None = None,
        max_nfe: int | None = None,
    ) -> Any:
        """The sampler `cfg` describes; one that asks a predictor gets the run's, or another folder's.

        One that takes a budget is asked for a mean `nfe` or told a `cost`, and takes `max_nfe` calls at most.
        """
        if "predictor" not in facts(lookup("sampler", cfg["name"])):
            about_run: dict[str, Any] = {
                "scheduler": self.assembly.scheduler,
                "own_step": self.step,
                "known_by": self.known_by,
            }
            return build("sampler", cfg, **about_run, nfe=nfe, cost=cost, max_nfe=max_nfe)
        folder = predictor or self.run.folder / "predictor"
        if not folder.exists() and predictor is None:
            raise ValueError(
                f"{self.run.folder} was trained with predictor=none; choose a fixed sampler: sampler=euler"
            )
        return build("sampler", cfg, predictor=self.asked(folder, nfe, cost), max_nfe=max_nfe)

    @property
    def known_by(self) -> dict[str, Any]:
        """What tells its denoiser, as it is asked, from any other."""
        about = {"weights": artifact_sha256(self.weights), "config": read_artifact_config(self.weights)}
        scale = self.cfg["guidance_scale"]
        return {
            "denoiser": config_sha256(about),
            "guidance_scale": scale,
            "guidance": None if scale == 1 else self.cfg["guidance"],  # it is off at 1
        }

    def picture(self, name: str) -> Path:
        """Where a picture goes that nobody named."""
        return self.run.folder / f"sample_{name}.png"

    def data(self) -> Any:
        """Where labels come from that nobody gave."""
        return self.assembly.data("test")

    @property
    def reads_captions(self) -> bool:
        return not isinstance(self.assembly.cond, CondSpec)

    def encoded(self, cond: Any) -> Condition:
        """Labels as they are; captions as this run's samplers carry them."""
        return self.assembly.encoded(cond, self.denoiser.backbone)

    def sample(
        self,
        sampler: Any,
        seeds: Sequence[int],
        cond: Condition,
        guidance_scale: float,
        guidance: dict[str, Any],
        batch_size: int,
    ) -> tuple[Tensor, Tensor]:
        """(images, NFE) of each seed, which do not depend on the batches they are drawn in."""
        denoiser = self.assembly.guided(self.denoiser, guidance_scale, guidance)
        x0, nfe = in_batches(sampler, denoiser, seeds, cond, self.assembly.shape, batch_size, self.device)
        return self.assembly.codec.decode(x0).cpu(), nfe.cpu()

    def evaluate(
        self,
        batch_size: int | None = None,
        nfe: float | None = None,
        cost: float | None = None,
        max_nfe: int | None = None,
        into: Path | None = None,
    ) -> dict[str, Any]:
        """Prints the tables, draws the pictures into `results` or another folder, returns what belongs into
        summary.json.
        """
        check_cap(nfe, max_nfe)
        if self.cfg["evaluation"] is None:
            return {}
        cfg = self.cfg["evaluation"] | ({} if batch_size is None else {"batch_size": batch_size})
        data = self.assembly.data("test")
        present = {name: self.run.folder / folder for folder, name in PREDICTORS.items()}
        evaluation = build(
            "evaluation",
            cfg,
            data=data,
            codec=self.assembly.codec,
            shape=self.assembly.shape,
            condition=self.encoded,
            classifier=kept_digit_classifier(self.run.folder / CLASSIFIER) if can_read(data) else None,
            device=self.device,
        )
        return evaluation(
            self.assembly.guided(self.denoiser, self.cfg["guidance_scale"], self.cfg["guidance"]),
            build("sampler", self.cfg["sampler"], scheduler=self.assembly.scheduler, max_nfe=max_nfe),
            {name: self.asked(folder, nfe, cost) for name, folder in present.items() if folder.exists()},
            into or self.results,
        )

    def evaluate_again(
        self,
        batch_size: int | None,
        nfe: float | None = None,
        cost: float | None = None,
        max_nfe: int | None = None,
    ) -> None:
        """Replaces the pictures and, in summary.json, the tables and what they were made with: the budget
        among it, where one was asked for.

        A run that may not be written is evaluated all the same, and keeps nothing of it.
        """
        if self.cfg["evaluation"] is None:
            raise ValueError(
                f"{self.run.folder} was trained with evaluation=none; there is no contest to repeat"
            )
        budget = {"nfe": nfe, "cost": cost, "max_nfe": max_nfe}
        asked = {key: value for key, value in budget.items() if value is not None}
        if self.cfg["predictor"] is None and asked:
            key, value = next(iter(asked.items()))
            raise ValueError(
                f"{key}={value:.15g} is a budget for a predictor, and {self.run.folder} has none"
            )
        if not self.run.is_writable:
            with TemporaryDirectory() as folder:
                self.evaluate(batch_size, nfe, cost, max_nfe, Path(folder))
            print(f"{self.run.folder} may not be written, so that neither tables nor pictures are kept")
            return
        path = self.results / SUMMARY
        self.results.mkdir(exist_ok=True)
        kept = {key: value for key, value in (read_summary(path) or {}).items() if key != BUDGET}
        tables = self.evaluate(batch_size, nfe, cost, max_nfe)
        write_json(path, {**kept, **tables, **({BUDGET: asked} if asked else {}), **provenance()})


def read_summary(path: Path) -> dict[str, Any] | None:
    """What a run ended with; None where that is still to come. ValueError where the file was damaged."""
    if not path.exists():
        return None
    try:
        summary = read_record(path)
        if "commit" not in summary:
            raise ValueError(f"{path} is no summary of a run; it was edited")
    except ValueError as damage:
        raise ValueError(f"{damage}; without it, the command that made it makes it again") from None
    return summary


class Used(TypedDict):
    """What a finished run's config.yaml is read for."""

    predictor: Component | None
    baseline: Component | None
    sampler: Component
    evaluation: Component | None
    inference_dtype: Literal["float32", "bfloat16", "float16"]
    guidance_scale: NonNegative[float]
    guidance: Component


def settings_of(run: Run) -> dict[str, Any]:
    """The config of a run. Raises ValueError where it was changed into one that cannot be."""
    cfg = run.config
    assert cfg is not None, "Run.open has seen its config.yaml"
    try:
        validate({key: cfg[key] for key in get_type_hints(Used) if key in cfg}, Used)
    except ValueError as error:
        raise ValueError(f"{run.folder / CONFIG} was changed since the run: {error}") from None
    return cfg


def check_finished(run: Run) -> None:
    """Raises ValueError naming the first of its parts that is still to come."""
    cfg = settings_of(run)
    if cfg.get("stage") == "codec":
        raise ValueError(
            f"run={run.folder} is a codec alone; train on its latents: codec.path={run.folder}/codec"
        )
    predictors = [cfg["predictor"] and "predictor", cfg["predictor"] and cfg["baseline"] and "time_only"]
    for name in ("denoiser", *filter(None, predictors), SUMMARY):
        if not (run.folder / name).exists():
            raise ValueError(
                f"run={run.folder} is unfinished: its {name} is still to come; "
                f"go on with the command that started it and run_name={run.folder.name}"
            )
