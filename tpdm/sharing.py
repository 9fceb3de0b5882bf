"""Denoisers that several runs need: each has a key made from all that decides it, and is trained once."""

from __future__ import annotations

import glob
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from braceexpand import braceexpand

from tpdm.registry import ALIASES, lookup, names
from tpdm.runtime.run import InUseError, Run
from tpdm.runtime.source import source_sha256

Config = Mapping[str, Any]
PARTS = ("data", "codec", "model", "scheduler", "density", "trainer", "optimizer", "parallel")
WHOLE = ("data", "codec", "model", "scheduler", "density", "optimizer", "seed", "mixed_precision")
WATCHED = {"report_every", "preview_every", "save_every"}  # how a training is followed, not where it leads
LIBRARIES = ("torch", "numpy", "diffusers", "tokenizers", "transformers")  # that parts compute with
POLL_S = 1.0


def deciding(cfg: Config, accelerator: Accelerator) -> dict[str, Any]:
    """All that decides a denoiser: settings, processes, stored data, the code of its parts, libraries."""
    return {
        **{key: cfg[key] for key in WHOLE},
        "trainer": numeric(cfg["trainer"]),
        "parallel": cfg["parallel"]["name"] if accelerator.num_processes > 1 else None,  # alone all are one
        "device": accelerator.device.type,
        "processes": accelerator.num_processes,
        "files": [line for part in ("data", "codec") for line in manifest(cfg[part])],
        "code": source_sha256({"tpdm.assembly", "tpdm.denoiser", *modules(cfg)}),
        "versions": versions(LIBRARIES),
    }


def versions(libraries: Iterable[str]) -> dict[str, str]:
    return {name: version(name) for name in libraries}


def numeric(trainer: Config) -> dict[str, Any]:
    """The settings of a loop that its numbers depend on, to the last bit.

    A block that is computed twice gives the same numbers twice. A compiled one is fused, and so rounded,
    differently, and differently again where it is computed twice.
    """
    without = WATCHED if trainer.get("compile") else WATCHED | {"gradient_checkpointing"}
    return {key: value for key, value in trainer.items() if key not in without}


def key_of(decided: Config) -> str:
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]


def modules(cfg: Config) -> set[str]:
    """Where the chosen components, and the components inside them, are defined."""
    found: set[str] = set()

    def visit(group: str, node: Any) -> None:
        if not isinstance(node, Mapping):
            return
        if isinstance(node.get("name"), str) and node["name"] in names(group):
            found.add(lookup(group, node["name"]).__module__)
        for key, inner in node.items():
            visit(f"{group}/{key}" if names(f"{group}/{key}") else group, inner)

    for part in PARTS:
        visit(ALIASES.get(part, part), cfg[part])
    return found


def manifest(part: Config) -> list[str]:
    """A line for each file that a component's settings name: path, bytes, and when it was written."""
    values = [value for key, value in part.items() if key != "name" and isinstance(value, str)]
    patterns = (pattern for value in values for pattern in braceexpand(value))
    roots = (Path(found) for pattern in patterns for found in glob.glob(pattern))
    files = (file for root in roots for file in ([root] if root.is_file() else root.rglob("*")))
    return sorted(f"{f} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.is_file())


@contextmanager
def turn(root: Path, decided: dict[str, Any], accelerator: Accelerator) -> Iterator[Run]:
    """The run in which that denoiser is trained, held by this job alone.

    Whoever else holds it is waited for. When a holder dies the kernel lets go, and the next one goes on from
    its checkpoints.
    """
    key = key_of(decided)
    if not accelerator.is_main_process:
        while not broadcast_object_list([None])[0]:
            pass
        yield Run(root / key)
        return
    run = Run.create(root, key)
    with ExitStack() as held:
        waits = False
        while not _holds(run, held, silent=waits):
            waits = True
            broadcast_object_list([False])  # no process waits for long in one exchange, which would end it
            time.sleep(POLL_S)
        run.keep_config(decided)
        broadcast_object_list([True])
        yield run


def _holds(run: Run, held: ExitStack, silent: bool) -> bool:
    try:
        held.enter_context(run.lock())
    except InUseError as busy:
        if not silent:
            print(f"denoiser: waiting, as {str(busy).split(';')[0]}", flush=True)
        return False
    return True
