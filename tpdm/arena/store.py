"""What was found and measured, kept under all that decides it, so that nothing is done twice."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.runtime.source import source_sha256
from tpdm.runtime.workers import BusyError

Key = Mapping[str, Any]


class Kept(NamedTuple):
    """A record that a file can hold: JSON, and tensors by name."""

    numbers: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class Store:
    """A folder with one folder for each record. `deciding` is what decides all of them."""

    def __init__(self, folder: Path, deciding: Key):
        self.folder, self.deciding = folder, deciding

    def keep(self, label: str, key: Key, make: Callable[[], Kept]) -> Kept:
        """The record of this key, made and written down where there is none yet. BusyError where another
        process is just making it; ValueError where what is there was damaged, or is another record."""
        path, whole = self._path(label, key), {**self.deciding, **key}
        if not path.exists():
            with claimed(path):
                if not path.exists():
                    made = make()
                    save_artifact(path, {"key": whole, "numbers": dict(made.numbers)}, made.tensors)
        remedy = f"delete {path}, and it is made anew"
        config, tensors = load_artifact(path, remedy)
        if config.get("key") != json.loads(json.dumps(whole)):
            raise ValueError(f"{path} holds another record than its name says; {remedy}")
        return Kept(config["numbers"], tensors)

    def has(self, label: str, key: Key) -> bool:
        return self._path(label, key).exists()

    def _path(self, label: str, key: Key) -> Path:
        text = json.dumps({**self.deciding, **key}, sort_keys=True)
        return self.folder / f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Alone at `path`; the kernel lets go of it when this process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    claim = path.with_name(f".{path.name}.claim")
    with open(claim, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(path) from None
        yield
        claim.unlink()  # where it failed, another may hold the file already


def described(part: Any) -> Any:
    """JSON that tells a component from any other: what it is, its code, and all of its choices. A file, which
    may be another tomorrow, is what it holds."""
    if isinstance(part, partial):
        return {"is": described(part.func), "with": described(part.keywords), "of": described(part.args)}
    if is_dataclass(part) and not isinstance(part, type):
        choices = {field.name: described(getattr(part, field.name)) for field in fields(part)}
        return {"is": described(type(part)), "with": choices}
    if isinstance(part, Path):
        return {"holds": hashlib.sha256(part.read_bytes()).hexdigest()}
    if isinstance(part, Mapping):
        return {str(key): described(item) for key, item in part.items()}
    if isinstance(part, list | tuple):
        return [described(item) for item in part]
    if callable(part):
        return f"{part.__module__}.{part.__qualname__} {code_of(part.__module__)}"
    return part


@cache
def code_of(module: str) -> str:
    """Of a module and all that it imports from its own package."""
    return source_sha256({module})
