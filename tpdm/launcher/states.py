"""What SLURM, or this machine, says of jobs: by their ids, without an accounting database."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress

QUEUED, RUNNING, GONE = "queued", "running", "gone"
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
AT_WORK = {"RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING"}


def states(ids: Iterable[str], cluster: str) -> dict[str, str]:
    """queued, running, SLURM's word for how it ended (FAILED, TIMEOUT), or gone, where nobody knows it."""
    ids = list(ids)
    if not ids:
        return {}
    found = _slurm(ids) if cluster == "slurm" else {job: RUNNING for job in ids if _alive(_process(job))}
    return {job: found.get(job, GONE) for job in ids}


def _slurm(ids: list[str]) -> dict[str, str]:
    """One call for all of them; squeue keeps jobs for some minutes after their end, sacct for ever."""
    arrays = ",".join(sorted({job.split("_")[0] for job in ids}))
    found = _words(["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--jobs={arrays}"])
    if set(ids) - found.keys():
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State"]
        found = {**_words([*command, f"--jobs={arrays}"]), **found}
    return {job: _state(word) for job, word in found.items()}


def _words(command: list[str]) -> dict[str, str]:
    """{id: SLURM's word}; nothing where the command fails, as it does for jobs that it has forgotten."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = (line.strip().split("|") for line in done.stdout.splitlines())
    return {line[0]: line[1].split()[0] for line in lines if len(line) > 1 and line[1].strip()}


def _state(word: str) -> str:
    return QUEUED if word in WAITING else RUNNING if word in AT_WORK else word


def _process(job: str) -> int:
    """Of a command that runs its jobs itself, each is `<its id>_<number>`."""
    return int(job.split("_")[0])


def _alive(pid: int) -> bool:
    """Whether that process lives, and is one of ours: ids of dead processes are given away again."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours that ended is a zombie until somebody asks
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return re.search(rb"submitit|tpdm", file.read()) is not None
    except OSError:
        return False
