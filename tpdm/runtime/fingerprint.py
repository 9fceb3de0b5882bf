"""Tells a file that was cut short or changed from the one that was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

ENDS = 2**20  # bytes at either end of a large file that tell it from another


@dataclass(frozen=True)
class Fingerprint:
    bytes: int
    sha256: str

    @staticmethod
    def of(path: Path) -> Fingerprint:
        with open(path, "rb") as file:
            return Fingerprint(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())

    def fault(self, path: Path) -> str | None:
        """What is wrong with `path`, in words; None when it is the file that was written."""
        size = path.stat().st_size
        if size < self.bytes:
            return f"is cut short ({size} of {self.bytes} bytes)"
        return None if Fingerprint.of(path) == self else "was changed after it was written (sha256 differs)"


class Fingerprinted:
    """A file open for writing whose fingerprint is known without reading it again."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.size, self.digest.hexdigest())


def tensors_sha256(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Of weights by their names and of what describes them, whatever file they came from."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, x in sorted(state.items()):
        digest.update(json.dumps([name, str(x.dtype), [*x.shape]]).encode())
        digest.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def ends_sha256(files: Iterable[Path], about: Any) -> bytes:
    """Of large files: of each its length, its beginning and its end; and of what describes them, as JSON."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for path in files:
        size = path.stat().st_size
        digest.update(str(size).encode())
        with open(path, "rb") as file:
            digest.update(file.read(ENDS))
            file.seek(max(size - ENDS, 0))
            digest.update(file.read(ENDS))
    return digest.digest()
