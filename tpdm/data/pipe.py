"""Shards that a command writes: `pipe:COMMAND`, run by the shell, and only when that is asked for.

A pipe cannot be read at random, so each command runs once a process, into a temporary file (in `TMPDIR`).
"""

import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

PREFIX = "pipe:"


def spooled(path: str, pipe: bool) -> Path:
    """Where the answer of the command lies. Raises ValueError where it fails, or was not allowed."""
    if not pipe:
        raise ValueError(f"data.path={path} runs a command; set data.pipe=true to allow that")
    return Path(_answer(path.removeprefix(PREFIX)).name)


@cache  # the parts of a run build the same data several times; the file is gone when the process ends
def _answer(command: str) -> IO[bytes]:
    file = tempfile.NamedTemporaryFile(prefix="tpdm_", suffix=".tar")  # noqa: SIM115
    status = subprocess.run(command, shell=True, stdout=file).returncode
    if status:
        file.close()
        raise ValueError(f"data.path={PREFIX}{command} ended with exit status {status}")
    return file
