"""Which networks a benchmark works on, and how its ratios are told."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from tpdm.assembly import DTYPES, Assembly, device_of
from tpdm.denoiser import Denoiser
from tpdm.finished import FinishedRun
from tpdm.registry import build, facts, lookup
from tpdm.runtime.atomic import write_json
from tpdm.runtime.provenance import provenance
from tpdm.suite.ratio import Measured

Config = dict[str, Any]


def measure(cfg: Config) -> None:
    """Runs the suite, prints its ratios and the machine, and keeps both in `out` if that is given."""
    device = device_of(cfg["device"])
    measured = build("suite", cfg["suite"], seed=cfg["seed"], device=device, **parts_of(cfg, device))()
    made = provenance()
    print(told(measured, cfg, made))
    if cfg["out"]:
        ratios = [ratio.record() for ratio in measured.ratios]
        record = {"suite": cfg["suite"]["name"], "ratios": ratios, "facts": measured.facts, "config": cfg}
        write_json(Path(cfg["out"]), record | made)


def parts_of(cfg: Config, device: torch.device) -> dict[str, Any]:
    """The facts that the suite asks for; those of a finished run, where one is given."""
    asked = facts(lookup("suite", cfg["suite"]["name"]))
    if "runner" in asked:
        raise ValueError(
            f"suite={cfg['suite']['name']} is no benchmark: python -m tpdm.evaluate run=FOLDER suite=arena"
        )
    made_here = next((make for name, make in MADE_HERE.items() if name in asked), None)
    if made_here is None:
        return configured(cfg, device) if cfg["run"] is None else finished(cfg["run"], device)
    if cfg["run"] is not None:
        raise ValueError(f"suite={cfg['suite']['name']} trains new weights; leave out run={cfg['run']}")
    return made_here(cfg)


def trainable(cfg: Config) -> dict[str, Any]:
    """The backbone of this config with random weights, and what trains it; no data are read."""
    torch.manual_seed(cfg["seed"])
    assembly = Assembly.of(cfg)
    return {
        "backbone": assembly.backbone(),
        "shape": assembly.shape,
        "cond": assembly.cond,
        "outputs": assembly.outputs,
        "optimizer": build("optimizer", cfg["optimizer"]),
    }


def improvable(cfg: Config) -> dict[str, Any]:
    """What trains a predictor on a transformer that the suite makes; neither data nor a backbone are read."""
    suite, trainer = cfg["suite"]["name"], cfg["predictor_trainer"]
    if cfg["predictor"] is None:
        raise ValueError(f"suite={suite} trains a predictor, and this config has none")
    if trainer is None or trainer["name"] != "predictor":
        raise ValueError(f"suite={suite} trains a predictor; use trainer@predictor_trainer=predictor")
    return {
        "scheduler": build("scheduler", cfg["scheduler"]),
        "sampler": build("sampler", cfg["sampler"]),
        "make_predictor": partial(build, "predictor", cfg["predictor"]),
        "make_trainer": partial(build, "trainer", cfg["predictor_trainer"]),
        "optimizer": build("optimizer", cfg["optimizer"]),
    }


MADE_HERE = {"backbone": trainable, "make_trainer": improvable}  # by a fact that the suite asks for


def configured(cfg: Config, device: torch.device) -> dict[str, Any]:
    """The networks of this config with random weights, frozen."""
    torch.manual_seed(cfg["seed"])
    assembly = Assembly.of(cfg)
    backbone: Any = assembly.backbone().to(device, DTYPES[cfg["inference_dtype"]])
    if cfg["predictor"] is None:
        raise ValueError(f"suite={cfg['suite']['name']} times a predictor, and this config has none")
    predictor = build("predictor", cfg["predictor"], features=backbone.features).to(device)
    return {
        "denoiser": Denoiser(backbone, assembly.scheduler).eval().requires_grad_(False),
        "predictor": predictor.eval().requires_grad_(False),
        "sampler": build("sampler", cfg["sampler"]),
        "data": assembly.data("train"),
        "shape": assembly.shape,
    }


def finished(folder: str, device: torch.device) -> dict[str, Any]:
    """The networks of a finished run, and its sampler."""
    run = FinishedRun.open(folder, device, ema=True)
    return {
        "denoiser": run.denoiser,
        "predictor": run.asked(Path(folder) / "predictor"),
        "sampler": build("sampler", run.cfg["sampler"]),
        "data": run.assembly.data("train"),
        "shape": run.assembly.shape,
    }


def told(measured: Measured, cfg: Config, made: Config) -> str:
    facts = ", ".join(
        f"{name} {value}" for name, value in measured.facts.items() if not isinstance(value, dict)
    )
    hardware, versions = made["hardware"], made["versions"]
    machine = (
        f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores, {hardware['threads']} threads"
    )
    networks = f"run={cfg['run']}" if cfg["run"] else "random weights"
    lines = [f"{networks}; {facts}", *(f"  {line}" for line in (*measured.ratios, *measured.lines))]
    return "\n".join([*lines, f"{machine}, torch {versions['torch']}, commit {made['commit']}"])
