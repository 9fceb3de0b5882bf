"""A folder or a zip as named files; nothing is ever unpacked, so no name can lead out of it."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

from tpdm.data.damage import UnreadableError

LARGEST = 2**29  # bytes of a file; Pillow refuses images that would need more


class Files(Protocol):
    path: Path
    names: list[str]  # relative, with forward slashes, sorted

    def read(self, name: str) -> bytes:
        """Raises UnreadableError where the content is damaged or too large, OSError where it is gone."""
        ...


class Folder:
    def __init__(self, path: Path):
        self.path = path
        found = (Path(root, name) for root, _, names in os.walk(path) for name in names)
        self.names = sorted(file.relative_to(path).as_posix() for file in found)

    def read(self, name: str) -> bytes:
        path = self.path / name
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UnreadableError("it is no plain file")  # a pipe would be waited for
        check_size(about.st_size)
        return path.read_bytes()


class Zip:
    def __init__(self, path: Path):
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
            self.names = sorted(info.filename for info in self.zip.infolist() if not info.is_dir())
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"data.path={path} is no whole zip: {error}") from None

    def read(self, name: str) -> bytes:
        try:
            size = self.zip.getinfo(name).file_size
            check_size(size)
            with self.zip.open(name) as file:
                return file.read(size)  # inflates no more than it declares, and checks the CRC
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
            raise UnreadableError(f"damaged in the zip ({error})") from None


def check_size(size: int) -> None:
    if size > LARGEST:
        raise UnreadableError(f"it has {size} bytes; at most {LARGEST} are read")


def open_files(path: str) -> Files:
    """Raises ValueError where `data.path` is neither a folder nor a zip."""
    place = Path(path)
    if place.is_dir():
        return Folder(place)
    if not place.exists():
        raise ValueError(f"data.path={path} does not exist")
    if not place.is_file():
        raise ValueError(f"data.path={path} is neither a folder nor a zip")
    return Zip(place)


def text(content: bytes, what: str) -> str:
    """Stripped, and not empty."""
    try:
        found = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise UnreadableError(f"the {what} is not UTF-8") from None
    if not found:
        raise UnreadableError(f"the {what} is empty")
    if "\0" in found:
        raise UnreadableError(f"the {what} holds zero bytes")
    return found
