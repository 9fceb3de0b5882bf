"""Published files: from a folder of this machine, or from the hub by id, downloaded once and kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SECONDS = 10  # until a hub that does not answer is given up


def published(where: str, files: Sequence[str], key: str) -> Path:
    """The folder that has all of `files` (glob patterns).

    `where` is a folder, or the id of a repository on the hub. Raises ValueError, naming the config key `key`,
    where a file is missing, or the hub neither has been asked before nor can be reached.
    """
    folder = Path(where).expanduser()
    if not folder.is_dir():
        folder = downloaded(where, files, key)
    for pattern in files:
        if not any(folder.glob(pattern)):
            raise ValueError(f"{key}={where} has no {pattern}; expected there: {', '.join(files)}")
    return folder


def downloaded(where: str, files: Sequence[str], key: str) -> Path:
    """What the cache holds of a repository, filled first if the hub can be reached."""
    if not is_id(where):
        raise ValueError(
            f"{key}={where} is no folder here, and no id of the hub (OWNER/NAME); where there is a network, "
            f"run `hf download OWNER/NAME --local-dir FOLDER`, copy FOLDER here and set {key}=FOLDER"
        )
    import huggingface_hub

    fault: Exception | None = None
    try:
        huggingface_hub.HfApi().repo_info(where, timeout=SECONDS)  # snapshot_download would wait for ever
    except Exception as error:  # the library beneath the hub's has errors of its own
        fault = error
    try:
        return Path(
            huggingface_hub.snapshot_download(
                where, allow_patterns=list(files), etag_timeout=SECONDS, local_files_only=fault is not None
            )
        )
    except (OSError, ValueError) as error:  # every error of the hub is one of the two
        fault = fault or error
        reason = str(fault).split("\n")[0] or type(fault).__name__
        raise ValueError(
            f"{key}={where} is no folder here, and cannot be had from the hub ({reason}); "
            f"where there is a network, and after its licence is accepted there if it asks for that, "
            f"run `hf download {where} --local-dir FOLDER`, copy FOLDER here and set {key}=FOLDER; "
            f"needed: {', '.join(files)}"
        ) from None


def is_id(where: str) -> bool:
    """Whether this could be OWNER/NAME."""
    return where.count("/") == 1 and not where.startswith((".", "/", "~", os.sep)) and " " not in where
