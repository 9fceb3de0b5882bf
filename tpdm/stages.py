"""The stages of a run. Each leaves a folder behind and is skipped when that folder is there."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from tpdm.assembly import DTYPES, Assembly, load_denoiser
from tpdm.check import check, is_ready_made
from tpdm.evaluation.digit_classifier import CLASSIFIER, DigitClassifier, can_read, kept_digit_classifier
from tpdm.evaluation.preview import SEEDS, Preview
from tpdm.evaluation.report import draw_curves
from tpdm.finished import SUMMARY, FinishedRun, read_summary
from tpdm.optimizer import Optimizer
from tpdm.predictor.budget import Budget, build_predictor, costs_of
from tpdm.registry import build
from tpdm.reward.weighted import Reward
from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.runtime.atomic import write_bytes
from tpdm.runtime.memory import memory_for
from tpdm.runtime.plots import png
from tpdm.runtime.provenance import provenance
from tpdm.runtime.run import Run
from tpdm.runtime.sharding import whole
from tpdm.runtime.timings import Stopwatch, read_timings
from tpdm.runtime.tracking import NullTracker, Tracker
from tpdm.sharing import deciding, turn
from tpdm.starting import accelerator_of, open_run
from tpdm.trainer.calibration import SEEDS as CALIBRATION_SEEDS
from tpdm.trainer.calibration import calibrated, held_out_nfe
from tpdm.trainer.denoiser import DenoiserTrainer
from tpdm.trainer.lr_find import check_rates, range_test, rising
from tpdm.trainer.pool import Pool, captions_of, load_pool, make_pool, save_pool, with_targets
from tpdm.trainer.stage import Stage
from tpdm.types import Condition, DenoiserLike

Config = dict[str, Any]
POOL_SEEDS = 2**20  # noises to explore from; previews and evaluation have others


def train(cfg: Config) -> None:
    """All stages of one run. Started again with the same run_name, it goes on where it stopped."""
    accelerator = accelerator_of(cfg)
    assembly = check(cfg, accelerator.num_processes).to(accelerator.device)
    with open_run(cfg, accelerator) as run:
        training = Training(cfg, run, accelerator, assembly)
        training.denoiser()
        if cfg["predictor"] is not None:
            training.predictor("predictor", cfg["predictor"], cfg["predictor_trainer"]["max_steps"])
            if cfg["baseline"] is not None:
                training.predictor("time_only", cfg["baseline"], cfg["baseline_steps"])
        if accelerator.is_main_process:
            training.summarise()
        training.tracker.close()


def find_lr(cfg: Config) -> None:
    """`stage=lr_find`: how large a learning rate the denoiser's training bears."""
    accelerator = accelerator_of(cfg)
    check_rates(**cfg["lr_find"])
    assembly = check(cfg, accelerator.num_processes).to(accelerator.device)
    with open_run(cfg, accelerator) as run:
        training = Training(cfg, run, accelerator, assembly)
        training.lr_find()
        training.tracker.close()


class Training:
    """One run's stages, in the order they happen: `denoiser`, then `predictor` as often as there are some."""

    def __init__(self, cfg: Config, run: Run, accelerator: Accelerator, assembly: Assembly):
        self.cfg, self.run, self.accelerator, self.assembly = cfg, run, accelerator, assembly
        self.tracker = Tracker(run.folder) if accelerator.is_main_process else NullTracker()

    @cached_property
    def classifier(self) -> DigitClassifier | None:
        """The judge of this run's digits, the same at every start; None where the data are others."""
        if not can_read(self.assembly.data("test")):
            return None
        with self.accelerator.main_process_first():
            stopwatch = Stopwatch(self.run.folder, CLASSIFIER)
            classifier = kept_digit_classifier(self.run.folder / CLASSIFIER)
            if self.accelerator.is_main_process:
                stopwatch.save()
        return classifier.to(self.accelerator.device)

    def denoiser(self) -> None:
        """Leaves denoiser/ (averaged weights), denoiser_raw/ (the last ones), and the GIF of its previews."""
        if (self.run.folder / "denoiser").is_dir():
            return
        if self.cfg["denoiser"] is not None:
            self.adopt(Path(self.cfg["denoiser"]))
            return
        if is_ready_made(self.cfg):
            self.take_over(self.assembly.backbone())
            return
        if self.cfg["denoisers"] is not None:
            self.share(Path(self.cfg["denoisers"]))
            return
        preview = self.preview()
        trainer = self.denoiser_trainer("denoiser", self.cfg["trainer"], preview)
        averaged, last = trainer.fit(), whole(trainer.backbone.state_dict())
        if self.accelerator.is_main_process:
            preview.film(self.run.folder / "training.gif")
            self.assembly.save_denoiser(self.run.folder / "denoiser_raw", last, "raw")
            self.assembly.save_denoiser(self.run.folder / "denoiser", averaged, "ema")
        self.accelerator.wait_for_everyone()

    def denoiser_trainer(
        self, name: str, settings: Config, preview: Preview, optimizer: Callable[..., Optimizer] | None = None
    ) -> DenoiserTrainer:
        """The loop with everything in it, at its start; `optimizer` in place of the config's."""
        torch.manual_seed(self.cfg["seed"])
        data = self.assembly.data("train", self.run.folder / "skipped.jsonl")
        trainer: DenoiserTrainer = build(
            "trainer",
            settings,
            backbone=self.assembly.backbone(),
            scheduler=self.assembly.scheduler,
            data=data,
            codec=self.assembly.encoder(data),
            condition=self.assembly.condition,
            density=build("density", self.cfg["density"]),
            optimizer=optimizer or build("optimizer", self.cfg["optimizer"]),
            parallel=build("parallel", self.cfg["parallel"]),
            stage=self.stage(name, self.cfg["mixed_precision"]),
            preview=preview,
        )
        return trainer

    def lr_find(self) -> None:
        """Leaves lr_find.json and lr_find.png, and prints the rate they suggest; keeps no weights."""
        path = self.run.folder / "lr_find.json"
        if not path.exists():
            chosen = self.cfg["lr_find"]
            settings = self.cfg["trainer"] | {"max_steps": chosen["num_steps"]}
            optimizer = rising(build("optimizer", self.cfg["optimizer"]), chosen["lr_min"], chosen["lr_max"])
            self.tracker.rewind("lr_find", -1)
            found = range_test(self.denoiser_trainer("lr_find", settings, self.preview(), optimizer))
            if self.accelerator.is_main_process:
                png(found.plot(), path.with_suffix(".png"))
                self.tracker.image(0, "lr_find", found.plot(), "lr_find")
                self.run.write_json(path.name, found._asdict() | provenance())
        if self.accelerator.is_main_process:
            suggestion = self.run.read_json(path.name)["suggestion"]
            print(f"optimizer.lr={suggestion:.2g} is suggested; see {path.with_suffix('.png')}")

    def take_over(self, backbone: nn.Module) -> None:
        """What needs no training is kept as it was built; published weights stay where they are."""
        if self.accelerator.is_main_process:
            for weights in ("denoiser_raw", "denoiser"):
                self.assembly.save_denoiser(self.run.folder / weights, backbone.state_dict(), "as built")
        self.accelerator.wait_for_everyone()

    def adopt(self, folder: Path) -> None:
        """Copies a denoiser that another run trained, so that this run stays whole without it."""
        if self.accelerator.is_main_process:
            config, state = load_artifact(folder)
            for weights in ("denoiser_raw", "denoiser"):
                here = {**config, "codec": self.cfg["codec"]}  # the same weights, perhaps elsewhere
                save_artifact(self.run.folder / weights, here, state, weights=f"from {folder}")
        self.accelerator.wait_for_everyone()

    def share(self, root: Path) -> None:
        """Copies the denoiser that runs with the same settings share, trained first where nobody has done it.

        With its metrics and previews: this run is the one that training it alone would have left, but for
        how often whoever trained it wrote those.
        """
        with turn(root, deciding(self.cfg, self.accelerator), self.accelerator) as shared:
            alone = Training({**self.cfg, "denoisers": None}, shared, self.accelerator, self.assembly)
            alone.denoiser()
            alone.tracker.close()
        if self.accelerator.is_main_process:
            self.tracker.adopt(shared.folder, "denoiser")
            for name in ("timings.json", "training.gif"):
                write_bytes(self.run.folder / name, (shared.folder / name).read_bytes())
            for name, weights in (("denoiser_raw", "raw"), ("denoiser", "ema")):
                save_artifact(self.run.folder / name, *load_artifact(shared.folder / name), weights=weights)
        self.accelerator.wait_for_everyone()

    def predictor(self, name: str, cfg: Config, max_steps: int) -> None:
        """Leaves the folder `name`: a predictor trained on the frozen denoiser."""
        folder = self.run.folder / name
        if folder.is_dir():
            return
        device, dtype = self.accelerator.device, DTYPES[self.cfg["inference_dtype"]]
        assembly, frozen = load_denoiser(self.run.folder / "denoiser", device, dtype)
        encoded = partial(assembly.encoded, backbone=frozen.backbone)
        denoiser = assembly.guided(frozen, self.cfg["guidance_scale"], self.cfg["guidance"])
        torch.manual_seed(self.cfg["seed"])
        costs = costs_of(self.cfg["reward"])
        predictor = build_predictor(cfg, frozen.backbone.features, costs)
        settings = {**self.cfg["predictor_trainer"], "max_steps": max_steps}
        rewards = [self.reward(key) for key in ("reward", "held_out") if self.cfg[key]]
        trainer = build(
            "trainer",
            settings,
            predictor=predictor,
            denoiser=denoiser,
            sampler=build("sampler", self.cfg["sampler"]),
            reward=rewards[0],
            held_out=rewards[1] if len(rewards) > 1 else None,
            decode=assembly.codec.decode,
            pool=self.pool(denoiser, encoded, settings, any(reward.uses_target for reward in rewards)),
            optimizer=build("optimizer", self.cfg["predictor_optimizer"]),
            stage=self.stage(name),
            costs=costs,
        )
        state = trainer.fit()
        budget = self.calibrate(name, trainer.predictor, denoiser, encoded)
        if self.accelerator.is_main_process:
            denoiser_folder, features = self.run.folder / "denoiser", frozen.backbone.features
            self.assembly.save_predictor(folder, cfg, denoiser_folder, features, state, budget)
        self.accelerator.wait_for_everyone()

    def calibrate(
        self, name: str, predictor: Any, denoiser: DenoiserLike, encoded: Callable[[Any], Condition]
    ) -> Budget | None:
        """Which cost leads to which mean NFE on held-out conditions; None where it is always the same."""
        costs, trainer = costs_of(self.cfg["reward"]), self.cfg["predictor_trainer"]
        if costs is None:
            return None
        stopwatch = Stopwatch(self.run.folder, f"{name}_calibration")
        generator = torch.Generator().manual_seed(CALIBRATION_SEEDS)
        _, cond = self.assembly.data("test").batch(self.cfg["calibration_samples"], generator)
        mean_nfe = held_out_nfe(
            lambda asked: build("sampler", self.cfg["sampler"], predictor=asked),
            predictor.eval(),
            denoiser,
            encoded(cond),
            self.assembly.shape,
            trainer["prompts"] * trainer["samples"],
            self.accelerator,
        )
        made = calibrated(costs, mean_nfe, silent=not self.accelerator.is_main_process)
        stopwatch.save()
        return made

    def reward(self, key: str) -> Reward:
        facts = {"classifier": self.classifier, "device": self.accelerator.device}
        return build("reward", self.cfg[key], at=key, **facts)

    def pool(
        self, denoiser: DenoiserLike, encoded: Callable[[Any], Condition], settings: Config, targets: bool
    ) -> Pool:
        """What to explore from, the same at every start and for a second predictor.

        The ends of its ODEs, if asked for, are kept beside the checkpoints.
        """
        folder = self.run.folder / "checkpoints" / "pool"
        with self.accelerator.main_process_first():
            if kept := load_pool(folder):
                return kept
            stopwatch = Stopwatch(self.run.folder, "pool")
            generator = torch.Generator().manual_seed(self.cfg["seed"])
            _, cond = self.assembly.data("train").batch(settings["pool_size"], generator)
            variants = 1 if settings["share_noise"] else settings["samples"]
            shape, prompts = tuple(self.assembly.shape), captions_of(cond)
            pool = make_pool(encoded(cond), shape, variants, POOL_SEEDS, prompts)
            if targets:
                steps, rows = settings["reference_steps"], settings["prompts"] * settings["samples"]
                silent = not self.accelerator.is_main_process
                with memory_for(
                    f"{rows} trajectories of the exact ODE (predictor_trainer.prompts={settings['prompts']})",
                    f"predictor_trainer.prompts={settings['prompts'] // 2 or 1} halves them",
                ):
                    pool = with_targets(pool, denoiser, steps, rows, self.accelerator.device, silent)
                save_pool(folder, pool)
            stopwatch.save()
        return pool

    def preview(self) -> Preview:
        a = self.assembly
        _, cond = a.data("test").batch(len(SEEDS), torch.Generator().manual_seed(0))
        read = a.condition(cond)
        return Preview(self.run.folder / "previews", a.backbone(), a.scheduler, a.codec, a.shape, read)

    def stage(self, name: str, mixed_precision: str = "no") -> Stage:
        return Stage(name, self.run, self.tracker, self.accelerator, self.cfg["seed"], mixed_precision)

    def summarise(self) -> None:
        """Evaluates from the files just written, and leaves the tables, pictures and summary.json."""
        if read_summary(self.run.folder / SUMMARY) is not None:
            print(f"finished already; python -m tpdm.evaluate run={self.run.folder} makes its table again")
            return
        stopwatch = Stopwatch(self.run.folder, "evaluation")
        draw_curves(self.run.folder)
        tables = FinishedRun(self.run, self.accelerator.device).evaluate()
        pictures = (self.run.folder / f"{name}.png" for name in ("samples", "schedules", "steps"))
        for path in filter(Path.exists, pictures):  # a denoiser alone has none
            self.tracker.image(0, path.stem, Image.open(path), "evaluation")
        stopwatch.save()
        self.run.write_json(SUMMARY, {**tables, "seconds": read_timings(self.run.folder), **provenance()})
