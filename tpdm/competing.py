"""What `evaluate suite=...` does: a finished run is put to a suite, which leaves its files in its folder."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from tpdm.arena.camp import Runner, Trained
from tpdm.evaluation.digit_classifier import CLASSIFIER, can_read, kept_digit_classifier
from tpdm.finished import PREDICTORS, FinishedRun
from tpdm.predictor.budget import kept_budget
from tpdm.registry import build, facts, lookup
from tpdm.runtime.artifact import artifact_sha256, read_artifact_config
from tpdm.runtime.source import source_sha256
from tpdm.runtime.timings import read_timings
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sharing import LIBRARIES, modules, versions

COLUMNS = 100  # of a paragraph on a terminal


def compete(finished: FinishedRun, cfg: dict[str, Any], batch_size: int | None) -> str:
    """What the suite found, in paragraphs for a terminal. ValueError where no finished run is put to it."""
    if "runner" not in facts(lookup("suite", cfg["name"])):
        raise ValueError(f"suite={cfg['name']} is a benchmark: python -m tpdm.benchmark suite={cfg['name']}")
    if not finished.run.is_writable:
        raise ValueError(
            f"run={finished.run.folder} may not be written, where suite={cfg['name']} leaves files"
        )
    data, runner = finished.data(), runner_of(finished)
    classifier = kept_digit_classifier(finished.run.folder / CLASSIFIER) if can_read(data) else None
    finished.results.mkdir(exist_ok=True)
    suite = build(
        "suite",
        cfg | ({} if batch_size is None else {"batch_size": batch_size}),
        runner=runner,
        made_by=made_by(finished, runner),
        data=data,
        condition=finished.encoded,
        shape=finished.assembly.shape,
        classifier=classifier,
        device=finished.device,
        folder=finished.results,
    )
    told = [fill(paragraph, COLUMNS, break_on_hyphens=False) for paragraph in suite()]
    return "\n\n".join([*told, f"All of it, with plots: {suite.page}"])


def runner_of(finished: FinishedRun) -> Runner:
    """The run's frozen parts."""
    cfg, assembly = finished.cfg, finished.assembly
    sampler = build("sampler", cfg["sampler"], scheduler=assembly.scheduler)
    return Runner(
        assembly.guided(finished.denoiser, cfg["guidance_scale"], cfg["guidance"]),
        finished.step,
        sampler if isinstance(sampler, AdaptiveSampler) else None,
        {folder.name: trained(finished, folder) for folder in folders(finished)},
        assembly.codec.decode,
        finished.known_by,
    )


def trained(finished: FinishedRun, folder: Path) -> Trained:
    """A predictor, and the seconds that its training took. Those of its pool are not among them: the exact
    ends that searches look at are charged to nobody either."""
    budget = kept_budget(read_artifact_config(folder))
    took = read_timings(finished.run.folder).get(folder.name, 0.0)
    return Trained(finished.predictor(folder), None if budget is None else budget.costs, took)


def made_by(finished: FinishedRun, runner: Runner) -> dict[str, Any]:
    """All of a run that decides its results: weights, the code that they are the weights of, how it samples,
    who reads its digits, and the libraries that all of this computes with."""
    keys = ("data", "sampler", "guidance_scale", "guidance", "inference_dtype")
    judge = finished.run.folder / CLASSIFIER
    predictors = {type(trained.predictor).__module__ for trained in runner.predictors.values()}
    return {
        **{key: finished.cfg[key] for key in keys},
        "codec": finished.assembly.codec.sha256,
        "weights": [artifact_sha256(folder) for folder in (finished.weights, *folders(finished))],
        "classifier": artifact_sha256(judge) if judge.exists() else None,
        "code": source_sha256({"tpdm.assembly", "tpdm.denoiser", *modules(finished.cfg), *predictors}),
        "versions": versions((*LIBRARIES, "scikit-learn")),
        "device": finished.device.type,
    }


def folders(finished: FinishedRun) -> list[Path]:
    """Of the run's predictors."""
    return [path for name in PREDICTORS if (path := finished.run.folder / name).exists()]
