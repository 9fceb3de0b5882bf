"""Files that are whole or not there: written under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

TEMPORARY = ".tmp"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError raised inside names `path`: a failed write() alone says "no space left", and not where."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def temporary_name(path: Path) -> Path:
    """Where `path` is prepared: hidden, in the same folder (and so on the same disk), one per process."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")


def leftovers(path: Path) -> list[Path]:
    """What a killed process was preparing to become `path`."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"))


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the name `path` when the block ends, and vanishes when the block raises."""
    temporary = temporary_name(path)
    with naming(path):
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut; fsync of a file covers its content only."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """The object in `path`; a ValueError of one line where it is missing, no JSON or no object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; it was cut short or edited")
    return content


def read_json(path: Path) -> Any:
    """The content of `path`; a ValueError of one line where it is missing, no JSON, or has a key twice."""
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_once)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); it was cut short or edited") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which nothing is dropped in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return found
