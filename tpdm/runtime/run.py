"""A run's folder: its name, its lock, its configuration."""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import secrets
import shutil
import socket
import string
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from tpdm.runtime.atomic import naming, read_json, write_json, write_text
from tpdm.runtime.process import keep_from_children

CONFIG, LOCK = "config.yaml", ".lock"
UNSET = "unset"
LONGEST = 255  # bytes of a file name, on every file system in use


class InUseError(ValueError):
    """Another process holds the folder."""


class Run:
    """`runs/<name>/`, made by `create` (to train) or found by `open` (to sample and evaluate)."""

    def __init__(self, folder: Path, new: bool = False):
        self.folder, self.new = folder, new

    @classmethod
    def create(cls, root: Path, name: str | None) -> Run:
        """A new folder named for the moment, never one that exists; with a name, that folder, new or not."""
        root = Path(root)
        check_name(name)
        with naming(root / (name or "")):
            root.mkdir(parents=True, exist_ok=True)
            if name is None:
                return cls(_new_folder(root), new=True)
            new = not (root / name).exists()
            (root / name).mkdir(exist_ok=True)
            return cls(root / name, new)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """A run that exists; otherwise a ValueError names the run with the nearest name."""
        folder = Path(folder)
        if (folder / CONFIG).is_file():
            return cls(folder)
        seen = "has no config.yaml, so it is no run" if folder.is_dir() else "does not exist"
        runs = [p.parent.name for p in folder.parent.glob(f"*/{CONFIG}")]
        nearest = difflib.get_close_matches(folder.name, runs, n=1, cutoff=0)
        hint = f"; did you mean {folder.parent / nearest[0]}?" if nearest else ""
        raise ValueError(f"run={folder} {seen}{hint}")

    @property
    def is_writable(self) -> bool:
        """False on a disk that is mounted to be read, and where permissions say so."""
        return os.access(self.folder, os.W_OK)

    @contextmanager
    def lock(self, patience_s: float = 0) -> Iterator[None]:
        """Holds the folder against other processes; the kernel lets go of it when this process dies.

        InUseError where another process still holds it after `patience_s`.
        """
        with open(self.folder / LOCK, "ab+", buffering=0) as file:  # no room shows at the write, once
            self._claim(file, time.monotonic() + patience_s)
            keep_from_children(file)
            try:
                yield
            finally:  # a worker that was forked this moment may have it still
                fcntl.flock(file, fcntl.LOCK_UN)

    def _claim(self, file: IO[bytes], until: float) -> None:
        with naming(self.folder / LOCK):
            while not _locked(file):
                if time.monotonic() < until:
                    time.sleep(0.2)
                    continue
                raise InUseError(f"{self.folder} is in use by {_holder(file)}; wait, or stop it first")
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())

    @property
    def config(self) -> dict[str, Any] | None:
        """What config.yaml says; None before `keep_config`."""
        path = self.folder / CONFIG
        if not path.exists():
            return None
        try:
            config = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            raise ValueError(f"{path} is not YAML; it was cut short or edited") from None
        if not isinstance(config, dict):
            raise ValueError(f"{path} holds no configuration; it was cut short or edited")
        return config

    def keep_config(self, config: Mapping[str, Any], ignore: Sequence[str] = ()) -> None:
        """Writes `config` the first time; later refuses one that differs elsewhere than under `ignore`."""
        text = yaml.safe_dump(dict(config), sort_keys=False)
        before = self.config
        if before is None:
            write_text(self.folder / CONFIG, text)
            return
        differs = difference(before, yaml.safe_load(text), ignore)
        if differs is not None:
            key, was, now = differs
            raise ValueError(
                f"{self.folder} was started with {key}={was} and cannot go on with {key}={now}; "
                f"give it back its value or choose another run_name"
            )

    def discard(self) -> None:
        """Takes back a folder that `create` made and that could not become a run."""
        if self.new and not (self.folder / CONFIG).exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def write_json(self, name: str, value: Any) -> None:
        write_json(self.folder / name, value)

    def read_json(self, name: str) -> Any:
        return read_json(self.folder / name)


def difference(
    old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()
) -> tuple[str, Any, Any] | None:
    """The first key that two configurations do not share, and both its values; not what is under `ignore`."""
    was, now = _flat(old), _flat(new)
    for key in {**now, **was}:
        ignored = any(f"{key}.".startswith(f"{prefix}.") for prefix in ignore)
        if not ignored and was.get(key, UNSET) != now.get(key, UNSET):
            return key, was.get(key, UNSET), now.get(key, UNSET)
    return None


def check_name(name: str | None) -> None:
    """Raises ValueError where a run cannot have this name."""
    if name is None:
        return
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"run_name={name!r} is not a plain folder name; leave out '/' and '..'")
    if (size := len(os.fsencode(name))) > LONGEST:
        raise ValueError(f"run_name={name[:40]}... has {size} bytes; a folder's name has at most {LONGEST}")


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _new_folder(root: Path) -> Path:
    while True:
        letters = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(6))
        folder = root / f"{time.strftime('%Y%m%d_%H%M%S')}_{letters}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def _holder(file: IO[bytes]) -> str:
    file.seek(0)
    try:
        signature = json.load(file)
        return f"process {signature['pid']} on {signature['host']}"
    except (ValueError, KeyError):  # it holds the lock and has not signed yet
        return "another process"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
