"""Where the jobs of a sweep run: what `launcher=` chooses, under submitit's own names."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from signal import SIG_IGN, SIGHUP, SIGINT, signal
from typing import Annotated, Any

from tpdm.launcher.frozen import FrozenJob
from tpdm.registry import NonNegative, Positive, Range, register

OURS = {"wait", "allow_dirty", "max_num_timeout"}  # not for submitit's update_parameters
COMMON = {"nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "timeout_min"}  # of any


@register("launcher", "local")
@dataclass(frozen=True)
class Here:
    """This process, one job after the other."""


@register("launcher", "submitit_local")
@dataclass(frozen=True)
class SubmititLocal:
    """Processes on this machine, through submitit."""

    wait: bool
    allow_dirty: bool
    array_parallelism: Positive[int]
    tasks_per_node: Positive[int]
    gpus_per_node: NonNegative[int] | None
    timeout_min: Positive[int]
    signal_delay_s: NonNegative[int]
    max_num_timeout: NonNegative[int]
    setup: list[str] | None

    @property
    def at_once(self) -> int | None:
        """How many jobs may be submitted together; None: any number."""
        return self.array_parallelism if self.wait else None

    def check(self) -> None:
        """Of this machine nothing is needed."""

    def submit(self, folder: Path, code: Path, jobs: Sequence[FrozenJob], name: str) -> list[Any]:
        """submitit's handles. A Ctrl-C in this terminal, and its end, are none of the jobs' business."""
        import submitit

        executor = submitit.LocalExecutor(folder, python=python(code, "setsid"))
        executor.update_parameters(**_given(self, without=OURS | {"array_parallelism"}))
        with _ignoring(SIGINT, SIGHUP):
            return [executor.submit(job) for job in jobs]

    def how_to_cancel(self, ids: Sequence[str]) -> str:
        return f"kill {' '.join(ids)}"


@register("launcher", "slurm")
@dataclass(frozen=True)
class Slurm:
    """SLURM, through submitit: one array for the jobs of a sweep."""

    wait: bool
    allow_dirty: bool
    array_parallelism: Positive[int]
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    nodelist: str | None
    exclude: str | None
    exclusive: bool | str | None
    dependency: str | None
    comment: str | None
    mail_type: str | None
    mail_user: str | None
    nodes: Positive[int]
    tasks_per_node: Positive[int]
    cpus_per_task: Positive[int] | None
    gpus_per_node: NonNegative[int] | None
    gpus_per_task: NonNegative[int] | None
    cpus_per_gpu: Positive[int] | None
    gres: str | None
    mem_gb: Positive[float] | None
    mem_per_cpu: str | None
    mem_per_gpu: str | None
    timeout_min: Positive[int]
    signal_delay_s: Annotated[int, Range(min=1, max=65535)]
    max_num_timeout: NonNegative[int]
    setup: list[str] | None
    srun_args: list[str] | None
    additional_parameters: dict[str, Any] | None

    at_once = None  # SLURM itself counts

    def check(self) -> None:
        """Raises ValueError where there is no SLURM to send to."""
        if shutil.which("sbatch") is None:
            raise ValueError(
                "launcher=slurm finds no sbatch on the PATH; accepted here: local, submitit_local"
            )

    def submit(self, folder: Path, code: Path, jobs: Sequence[FrozenJob], name: str) -> list[Any]:
        """submitit's handles. Raises ValueError with what sbatch said where it refuses."""
        import submitit
        from submitit.core.utils import FailedJobError

        executor = submitit.AutoExecutor(
            folder, "slurm", slurm_max_num_timeout=self.max_num_timeout, slurm_python=python(code)
        )
        given = _given(self, without=OURS)
        executor.update_parameters(
            name=name, **{key if key in COMMON else f"slurm_{key}": value for key, value in given.items()}
        )
        try:
            return executor.submit_array(jobs)
        except (FailedJobError, subprocess.CalledProcessError) as error:
            said = " ".join(str(getattr(error, "stderr", None) or error).split())
            raise ValueError(f"sbatch refused: {said}") from None

    def how_to_cancel(self, ids: Sequence[str]) -> str:
        return f"scancel {' '.join(ids)}"


def python(code: Path, *before: str) -> str:
    """The command line of a job's Python, which imports from the snapshot and not from where it stands.

    Until the job has a handler of its own it ignores the signal that asks it to save: nothing is to be saved
    yet, and what that signal does to a program by default is to end it.
    """
    script = (
        'trap "" USR2; '
        f'export PYTHONPATH={shlex.quote(str(code.absolute()))}"${{PYTHONPATH:+:$PYTHONPATH}}"; '
        f'exec {shlex.quote(sys.executable)} -P "$@"'
    )
    return shlex.join([*before, "bash", "-c", script, "tpdm"])


def _given(launcher: Any, without: set[str]) -> dict[str, Any]:
    """The parameters that somebody set."""
    values: Mapping[str, Any] = {f.name: getattr(launcher, f.name) for f in fields(launcher)}
    return {name: value for name, value in values.items() if value is not None and name not in without}


@contextmanager
def _ignoring(*numbers: int) -> Iterator[None]:
    """Children started inside inherit that these signals mean nothing."""
    before = {number: signal(number, SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal(number, handler)
