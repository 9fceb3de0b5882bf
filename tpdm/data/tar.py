"""Where the members of a tar stand, read off its headers; damage is named, and what lies behind it found.

Nothing is unpacked and no link is followed, so that a name is a name and never a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

BLOCK = 512
MAGIC, MAGIC_AT = b"ustar", 257
CHUNK = 1 << 20
REGULAR, LONG_NAME, PAX = b"0\0", b"L", b"x"
MAX_NAME = 1 << 16  # bytes of an extended header


class Member(NamedTuple):
    """A file in the tar. `trusted` is False where what follows it is no header: its end may be displaced."""

    name: str
    start: int
    size: int
    trusted: bool


class Gap(NamedTuple):
    """Bytes that are no part of any member."""

    start: int
    reason: str


class HeaderError(Exception):
    """512 bytes that are no header."""


@dataclass(frozen=True)
class Header:
    name: str
    size: int
    kind: bytes

    @property
    def blocks(self) -> int:
        """Bytes up to the next header."""
        return -(-self.size // BLOCK) * BLOCK


def walk(path: Path) -> Iterator[Member | Gap]:
    """Members and gaps in the order of the file. Raises OSError where the file cannot be read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield from _walk(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _walk(file: int, end: int) -> Iterator[Member | Gap]:
    place, name, last = 0, "", None  # `name` is what an extended header gave the next member
    while True:
        block = os.pread(file, BLOCK, place)
        try:
            header = None if finished(file, block, place, end) else parse(block)
        except HeaderError as error:
            if last is not None:
                yield last._replace(trusted=False)
            # bytes may be missing from the last member, so that the next header stands before its time
            found = next_header(file, last.start if last is not None else place + 1, end)
            yield Gap(place, f"{error} at byte {place}" + ("" if found else "; what follows is lost"))
            place, name, last = found or end, "", None
            if not found:
                return
            continue
        if last is not None:
            yield last
        if header is None:
            return
        start, last = place + BLOCK, None
        if header.kind in (LONG_NAME, PAX) and header.size <= MAX_NAME:
            name = extended_name(os.pread(file, header.size, start), header.kind) or name
        elif header.kind in REGULAR:
            last, name = Member(name or header.name, start, header.size, True), ""
        else:
            name = ""
        place = start + header.blocks


def finished(file: int, block: bytes, place: int, end: int) -> bool:
    """True at the end mark. Raises HeaderError where the file ends without one, or goes on behind it."""
    if not block:
        raise HeaderError("the archive is cut short: it has no end mark")
    if block.strip(b"\0"):
        return False
    while place < end:
        chunk = os.pread(file, CHUNK, place)
        if not chunk or chunk.strip(b"\0"):
            raise HeaderError("the archive goes on behind its end mark")
        place += len(chunk)
    return True


def parse(block: bytes) -> Header:
    """Raises HeaderError where the checksum is not that of the block."""
    if len(block) < BLOCK:
        raise HeaderError("the archive is cut short")
    try:
        checksum = int(block[148:156].strip(b" \0"), 8)
        size = number(block[124:136])
    except ValueError:
        raise HeaderError("no header") from None
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise HeaderError("a header with a wrong checksum")
    name = text(block[:100])
    if block[MAGIC_AT : MAGIC_AT + 6] == MAGIC + b"\0" and (prefix := text(block[345:500])):
        name = f"{prefix}/{name}"
    return Header(name, size, block[156:157])


def number(digits: bytes) -> int:
    """Octal, or base 256 for 8 GB and more."""
    value = int.from_bytes(digits[1:], "big") if digits[0] == 0x80 else int(digits.strip(b" \0") or b"0", 8)
    if value < 0:
        raise ValueError(value)
    return value


def text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def extended_name(content: bytes, kind: bytes) -> str:
    """The name that a GNU or a pax header has for the next member; empty where it has none."""
    if kind == LONG_NAME:
        return text(content)
    for line in content.split(b"\n"):  # "<length> path=<name>"
        _, _, pair = line.partition(b" ")
        if pair.startswith(b"path="):
            return pair[5:].decode("utf-8", "replace")
    return ""


def next_header(file: int, place: int, end: int) -> int | None:
    """Where the next whole header starts, whatever its alignment: bytes may be missing."""
    while place < end:
        chunk = os.pread(file, CHUNK + BLOCK, place)
        found = chunk.find(MAGIC)
        while found >= 0:
            start = place + found - MAGIC_AT
            if found >= MAGIC_AT and is_header(os.pread(file, BLOCK, start)):
                return start
            found = chunk.find(MAGIC, found + 1)
        place += CHUNK
    return None


def is_header(block: bytes) -> bool:
    try:
        parse(block)
    except HeaderError:
        return False
    return True
