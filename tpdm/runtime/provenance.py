"""What made a number: versions, commit, hardware. Whatever cannot be found out is None."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("tpdm", "torch", "numpy", "diffusers", "timm", "accelerate", "safetensors", "hydra-core")


def provenance(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """For summary.json; never raises."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in packages}
    return {"versions": versions, "commit": commit(), "hardware": hardware()}


def hardware() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"cpu": _cpu(), "cores": _cores(), "threads": torch.get_num_threads(), "gpu": gpu}


def commit(file: Path = Path(__file__)) -> str | None:
    """The commit of `file`, with +dirty if a tracked file was edited since; None if git has no such file.

    An installed package may lie inside somebody else's checkout: its commit would not be ours.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    head = _git(file.parent, "rev-parse", "HEAD")
    changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+dirty" if head and changed else head


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str | None:
    try:
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    return model[1] if model else platform.processor() or platform.machine() or None


def _cores() -> int | None:
    """Those this process may use, which a container or a scheduler may have made fewer."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
