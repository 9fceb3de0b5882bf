"""A sweep's folder: which jobs it has, under which ids they were sent, and how each of them ended."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpdm.runtime.artifact import config_sha256
from tpdm.runtime.atomic import naming, read_record, write_bytes, write_json
from tpdm.runtime.process import keep_from_children
from tpdm.runtime.run import check_name

MANIFEST, JOBS, CODE, DENOISERS, LOCK = "sweep.json", "jobs", "code", "denoisers", ".lock"
DONE = "summary.json"  # the last file of a run
LONGEST_NAME = 120

Jobs = Sequence[tuple[Sequence[str], dict[str, Any]]]  # overrides, and the config that they make


@dataclass(frozen=True)
class Sent:
    """What sweep.json says of a job. Its run's folder is named `name`, and its files lie in jobs/."""

    name: str
    swept: dict[str, str]  # the settings in which the jobs of this sweep differ
    id: str
    ranks: int
    cluster: str  # who knows its state: slurm, local, here
    summarised: bool = True  # whether its run's last file is a summary


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
        """One command at a time sends jobs; one that was refused leaves no folder behind."""
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.folder} is being submitted by another process; wait for it"
                ) from None
            keep_from_children(file)
            try:
                yield
            finally:
                if os.listdir(self.folder) == [LOCK]:
                    (self.folder / LOCK).unlink()
                    self.folder.rmdir()
                fcntl.flock(file, fcntl.LOCK_UN)

    def clear(self) -> None:
        """Takes away what was prepared for jobs, where none was ever sent."""
        for name in (CODE, JOBS):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def sent(self) -> dict[str, Sent]:
        """Every job that was ever sent, by name, under its newest id. Raises ValueError for damage."""
        path = self.folder / MANIFEST
        try:
            return {job["name"]: Sent(**job) for job in read_record(path)["jobs"]} if path.exists() else {}
        except (KeyError, TypeError):
            raise ValueError(f"{path} is no list of jobs; it was cut short or edited") from None

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

    def result_path(self, job: Sent, rank: int = 0) -> Path:
        return self.folder / JOBS / f"{job.id}_{rank}_result.pkl"

    def results(self, job: Sent) -> dict[int, str | None]:
        """Of every rank that came to an end: its traceback, None where it succeeded."""
        paths = {rank: self.result_path(job, rank) for rank in range(job.ranks)}
        return {rank: _result(path) for rank, path in paths.items() if path.exists()}

    def keep_result(self, job: Sent, error: str | None) -> None:
        """As submitit keeps those of its jobs."""
        path = self.result_path(job)
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, pickle.dumps(("error", error) if error else ("success", None)))

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
        return "\n".join(["; its log ends with:", *text]) if text else ""


class _Plain(pickle.Unpickler):
    """A result is words; whatever else a file may hold is not run."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def _result(path: Path) -> str | None:
    """What a rank raised, None for nothing; of a damaged file, that it is one."""
    try:
        with open(path, "rb") as file:
            outcome, value = _Plain(file).load()
    except Exception as damage:  # pickle has no error of its own for every damage
        return f"{path} cannot be read ({type(damage).__name__}: {damage}); it was cut short or edited"
    return str(value) if outcome == "error" else None


def placed(sweep: Sweep, cfg: dict[str, Any], name: str, jobs: int) -> dict[str, Any]:
    """A training with its run in the sweep's folder, where one of several shares denoisers."""
    if not trains(cfg):
        return cfg
    shared = str(sweep.folder / DENOISERS) if jobs > 1 else None
    denoisers = cfg["denoisers"] if cfg["denoisers"] is not None else shared
    return {**cfg, "runs": str(sweep.folder), "run_name": name, "denoisers": denoisers}


def trains(cfg: Mapping[str, Any]) -> bool:
    """Whether that config makes a run."""
    return "run_name" in cfg and not cfg["dry_run"]


def summarises(cfg: Mapping[str, Any]) -> bool:
    """Whether that run ends with a summary."""
    return trains(cfg) and cfg["stage"] is None


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
