"""A trained component's folder, which loads on its own: `config.json` and `model.safetensors`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from tpdm.runtime.atomic import (
    leftovers,
    naming,
    read_json,
    sync_folder,
    temporary_name,
    whole_file,
    write_json,
)
from tpdm.runtime.fingerprint import Fingerprint, Fingerprinted

CONFIG, MODEL = "config.json", "model.safetensors"
COPY = "copy the folder again"  # what there is to do about a damaged one


def save_artifact(
    folder: Path, config: dict[str, Any], state: Mapping[str, Tensor], *, weights: str = "raw"
) -> None:
    """Writes both files beside `folder`, then swaps them in; `weights` says which, such as "ema"."""
    folder = Path(folder)
    prepared = temporary_name(folder)
    with naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in leftovers(folder):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            prepared.mkdir()
            _write(prepared, config, state, weights)
            _swap(prepared, folder)
        finally:
            shutil.rmtree(prepared, ignore_errors=True)


def load_artifact(folder: Path, remedy: str = COPY) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, state) on the CPU; a ValueError of one line says what is missing, cut short or changed, and
    what to do about it."""
    source, config, fingerprint = _read_card(Path(folder), remedy)
    model = source / MODEL
    if not model.exists():
        raise ValueError(f"{model} is missing; {remedy}")
    if fault := fingerprint.fault(model):
        raise ValueError(f"{model} {fault}; {remedy}")
    return config, safetensors.torch.load_file(model)


def read_artifact_config(folder: Path) -> dict[str, Any]:
    """The settings alone."""
    return _read_card(Path(folder))[1]


def artifact_sha256(folder: Path) -> str:
    """Which weights these are, as their config.json says."""
    return _read_card(Path(folder))[2].sha256


def _read_card(folder: Path, remedy: str = COPY) -> tuple[Path, dict[str, Any], Fingerprint]:
    """Where the artifact stands, and what its config.json says."""
    source = folder if folder.exists() else _aside(folder)
    if not source.exists():
        raise ValueError(f"{folder} is missing; a finished run has it")
    if not source.is_dir():
        raise ValueError(f"{folder} is a file, where a folder belongs; {remedy}")
    try:
        card = read_json(source / CONFIG)
    except ValueError as fault:
        raise ValueError(f"{fault}; {remedy}") from None
    try:
        config, fingerprint = card["config"], Fingerprint(card["bytes"], card["sha256"])
        unchanged = card["config_sha256"] == config_sha256(config)
    except (KeyError, TypeError):
        strange = f"{source / CONFIG} is not the config.json of a trained component"
        raise ValueError(f"{strange}; {remedy}") from None
    if not unchanged:
        raise ValueError(f"{source / CONFIG} was changed after it was written; {remedy}")
    return source, config, fingerprint


def config_sha256(config: Any) -> str:
    """Of the settings in one spelling, whatever the order and the spaces of the file."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _write(folder: Path, config: dict[str, Any], state: Mapping[str, Tensor], weights: str) -> None:
    tensors = {name: x.detach().cpu().contiguous() for name, x in state.items()}
    with whole_file(folder / MODEL) as file:
        writer = Fingerprinted(file)
        writer.write(safetensors.torch.save(tensors, {"format": "pt"}))
    card = {"weights": weights, **asdict(writer.fingerprint), "config_sha256": config_sha256(config)}
    write_json(folder / CONFIG, {**card, "config": config})


def _aside(folder: Path) -> Path:
    """Where the old folder stands for the instant between two renames; loading looks there too."""
    return folder.with_name(f".{folder.name}.old")


def _swap(prepared: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(_aside(folder), ignore_errors=True)
        os.rename(folder, _aside(folder))
    os.rename(prepared, folder)
    sync_folder(folder.parent)
    shutil.rmtree(_aside(folder), ignore_errors=True)
