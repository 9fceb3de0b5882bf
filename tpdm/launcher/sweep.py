"""A sweep's folder: which jobs it has, under which ids they were sent, and how each of them ended."""

from __future__ import annotations

import fcntl
import hashlib
import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpdm.runtime.artifact import config_sha256
from tpdm.runtime.atomic import read_json, write_json
from tpdm.runtime.run import check_name

MANIFEST, JOBS, CODE, DENOISERS = "sweep.json", "jobs", "code", "denoisers"
DONE = "summary.json"  # the last file of a run
LONGEST_NAME = 120


@dataclass(frozen=True)
class Sent:
    """What sweep.json says of a job. Its run's folder is named `name`, and its files lie in jobs/."""

    name: str
    swept: dict[str, str]  # the settings in which the jobs of this sweep differ
    id: str
    ranks: int
    cluster: str  # launcher.name


@dataclass(frozen=True)
class Failure:
    """Of one rank: it raised, or left no result."""

    job: Sent
    rank: int
    text: str  # the traceback


class Sweep:
    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def open(cls, folder: Path) -> Sweep:
        """A sweep that exists. Raises ValueError otherwise."""
        if not (folder / MANIFEST).is_file():
            raise ValueError(f"sweep={folder} has no {MANIFEST}, so it is no sweep")
        return cls(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time sends jobs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.folder} is being submitted by another process; wait for it"
                ) from None
            yield

    def sent(self) -> dict[str, Sent]:
        """Every job that was ever sent, by name; under the newest id."""
        path = self.folder / MANIFEST
        return {entry["name"]: Sent(**entry) for entry in read_json(path)["jobs"]} if path.exists() else {}

    def record(self, command: Sequence[str], jobs: Sequence[Sent]) -> None:
        """Adds jobs, or replaces those of the same name."""
        known = {**self.sent(), **{job.name: job for job in jobs}}
        write_json(
            self.folder / MANIFEST,
            {"command": list(command), "jobs": [asdict(job) for job in known.values()]},
        )

    def done(self, name: str) -> bool:
        return (self.folder / name / DONE).exists()

    def log(self, job: Sent, rank: int = 0) -> Path:
        return self.folder / JOBS / f"{job.id}_{rank}_log.err"

    def results(self, job: Sent) -> dict[int, str | None]:
        """Of every rank that came to an end: its traceback, None where it succeeded."""
        paths = {rank: self.folder / JOBS / f"{job.id}_{rank}_result.pkl" for rank in range(job.ranks)}
        found = {rank: pickle.loads(path.read_bytes()) for rank, path in paths.items() if path.exists()}
        return {rank: value if outcome == "error" else None for rank, (outcome, value) in found.items()}

    def failures(self, job: Sent, state: str) -> list[Failure]:
        """Of a job that has ended, in `state`: one for each rank that raised or left no result."""
        results = self.results(job)
        raised = [Failure(job, rank, text) for rank, text in results.items() if text is not None]
        lost = [rank for rank in range(job.ranks) if rank not in results]
        died = [Failure(job, rank, f"left no result ({state}){self.tail(job, rank)}") for rank in lost]
        return raised + died

    def tail(self, job: Sent, rank: int, lines: int = 20) -> str:
        """The end of its log."""
        path = self.log(job, rank)
        text = path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []
        return "".join(f"\n{line}" for line in ["; its log ends with:", *text]) if text else ""


def folder_of(configs: Sequence[Mapping[str, Any]]) -> Path:
    """runs/<run_name>; without a name, one that the same command finds again."""
    root, name = Path(configs[0].get("runs", "runs")), configs[0].get("run_name")
    if name is None:
        digest = hashlib.sha256("".join(config_sha256(_identity(cfg)) for cfg in configs).encode())
        name = f"sweep_{digest.hexdigest()[:8]}"
    check_name(name)
    return root / name


def names_of(overrides: Sequence[Sequence[str]]) -> list[tuple[str, dict[str, str]]]:
    """Of each job its name, made from the values in which the jobs differ, and those settings."""
    given = [dict(override.split("=", 1) for override in job) for job in overrides]
    varying = [key for key in given[0] if len({job.get(key) for job in given}) > 1]
    swept = [{key.lstrip("+"): job[key] for key in varying} for job in given]
    return [(_name(job.values()) or "job", job) for job in swept]


def _name(values: Iterator[str] | Any) -> str:
    text = "_".join(values)
    name = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", text).strip("._")
    if len(name) > LONGEST_NAME or name != text.replace("/", "_"):
        name = f"{name[:LONGEST_NAME]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return name


def _identity(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a sweep this one: everything but how and where it is launched."""
    plain = {
        key: value for key, value in cfg.items() if key not in ("launcher", "runs", "debug", "denoisers")
    }
    return json.loads(json.dumps(plain))
