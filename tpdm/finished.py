"""A finished run, opened again from its files to sample from it and to evaluate it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpdm.assembly import DTYPES, load_denoiser, load_predictor
from tpdm.evaluation.digit_classifier import fit_digit_classifier
from tpdm.registry import build
from tpdm.runtime.run import Run
from tpdm.sampler.noise import initial_noise
from tpdm.types import Trajectory

CLASSIFIER_SEED = 0
PREDICTORS = {"predictor": "predictor", "time_only": "sees only t"}  # folder: name in the table


class FinishedRun:
    """The frozen parts of a run. Raises ValueError where `run` is unfinished or its files were cut short or changed."""

    def __init__(self, run: Run, device: torch.device, ema: bool = True):
        cfg = run.config
        assert cfg is not None, "Run.open has seen its config.yaml"
        self.run, self.cfg, self.device = run, cfg, device
        check_finished(run.folder, cfg)
        folder = run.folder / ("denoiser" if ema else "denoiser_raw")
        self.assembly, self.denoiser = load_denoiser(folder, device, DTYPES[cfg["inference_dtype"]])

    def predictor(self, folder: Path) -> Any:
        return load_predictor(folder, self.run.folder / "denoiser", self.denoiser.backbone.features, self.device)

    def sampler(self, cfg: dict[str, Any], predictor: Path | None) -> Any:
        """The sampler `cfg` describes; an adaptive one gets the run's predictor, or the one in another folder."""
        if cfg["name"] != "adaptive":
            return build("sampler", cfg)
        folder = predictor or self.run.folder / "predictor"
        if not folder.exists() and predictor is None:
            raise ValueError(
                f"{self.run.folder} was trained with predictor=none; choose a fixed sampler, such as sampler=euler"
            )
        return build("sampler", cfg, predictor=self.predictor(folder))

    @torch.no_grad()
    def sample(
        self, sampler: Any, seeds: Sequence[int], cond: Tensor, guidance_scale: float, batch_size: int
    ) -> tuple[Tensor, Tensor]:
        """(images, NFE) of each seed, which do not depend on the batches they are drawn in."""
        denoiser = self.assembly.guided(self.denoiser, guidance_scale)
        parts: list[Trajectory] = []
        for start in range(0, len(seeds), batch_size):
            chosen = slice(start, start + batch_size)
            noise = initial_noise(seeds[chosen], self.assembly.shape).to(self.device)
            parts.append(sampler(denoiser, noise, cond[chosen].to(self.device), seeds[chosen]))
        x0 = torch.cat([part.x0 for part in parts])
        return self.assembly.codec.decode(x0).cpu(), torch.cat([part.nfe for part in parts]).cpu()

    def evaluate(self, batch_size: int | None = None) -> dict[str, Any]:
        """Prints the tables, draws the pictures into the run's folder, returns what belongs into summary.json."""
        cfg = self.cfg["evaluation"] | ({} if batch_size is None else {"batch_size": batch_size})
        present = {name: self.run.folder / folder for folder, name in PREDICTORS.items()}
        evaluation = build(
            "evaluation",
            cfg,
            data=self.assembly.data("test"),
            codec=self.assembly.codec,
            shape=self.assembly.shape,
            classifier=fit_digit_classifier(CLASSIFIER_SEED).to(self.device),
            device=self.device,
        )
        return evaluation(
            self.assembly.guided(self.denoiser, self.cfg["guidance_scale"]),
            build("sampler", self.cfg["sampler"]),
            {name: self.predictor(folder) for name, folder in present.items() if folder.exists()},
            self.run.folder,
        )


def check_finished(folder: Path, cfg: dict[str, Any]) -> None:
    """Raises ValueError naming the first stage that is still to come."""
    stages = {"denoiser": True, "predictor": cfg["predictor"] is not None}
    for name, wanted in stages.items():
        if wanted and not (folder / name).exists():
            raise ValueError(
                f"run={folder} is unfinished: its {name} is still to be trained; "
                f"go on with the command that started it and run_name={folder.name}"
            )
