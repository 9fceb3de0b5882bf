"""Tar shards of images with captions or classes beside them, the layout that img2dataset writes."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from braceexpand import braceexpand
from PIL.Image import Image

from tpdm.data.damage import Damage, UnreadableError
from tpdm.data.files import text
from tpdm.data.image import SUFFIXES, Square, decode
from tpdm.data.images import Images
from tpdm.data.pipe import PREFIX, spooled
from tpdm.data.tar import BLOCK, Gap, Member, parse, walk
from tpdm.registry import Fraction, NonNegative, Positive, register

KINDS = ("txt", "json", "cls")
Labels = Literal["auto", "txt", "json", "cls", "none"]


@register("data", "webdataset")
class WebDataset(Images):
    """`path` is a tar, a glob of tars, or a range such as `/d/{00000..00127}.tar`; with `pipe`, a command.

    Members of one key are one sample. `labels` is the member that conditions come from; `auto` takes the
    first of txt, json and cls that the first sample has. `json_key` is where the caption stands in a json.
    """

    def __init__(
        self,
        path: str,
        pipe: bool,
        labels: Labels,
        json_key: str,
        num_classes: Positive[int] | None,
        size: Positive[int],
        channels: Literal[1, 3],
        flip: bool,
        test_fraction: Fraction[float],
        workers: NonNegative[int],
        reshard: bool,
        max_skipped: Fraction[float],
        *,
        split: str,
        skipped: Path | None = None,
    ):
        self.shards = find_shards(path, pipe)
        self.kind = first_kind(self.shards) if labels == "auto" else labels
        self.json_key = json_key
        if self.kind == "cls" and num_classes is None:
            raise ValueError("data.num_classes is missing; data.labels=cls needs to know how many there are")
        self.indexes = [index_of(shard, self.kind) for shard in self.shards]
        self.ends = np.cumsum([len(index.image) for index in self.indexes])
        found = int(self.ends[-1])
        unreadable = [damage for index in self.indexes for damage in index.damages]
        if not found:
            why = f"; the first reason: {unreadable[0]}" if unreadable else ""
            raise ValueError(f"data.path={path} has {len(self.shards)} shards without a whole sample{why}")
        classes = {"none": ["image"], "cls": [str(k) for k in range(num_classes or 0)]}.get(self.kind)
        super().__init__(
            found,
            Square(size, channels, flip),
            classes,
            split=split,
            test_fraction=test_fraction,
            workers=workers,
            reshard=reshard,
            max_skipped=max_skipped,
            skipped=skipped,
            unreadable=unreadable,
        )

    def find(self, row: int) -> tuple[Index, int]:
        """The shard of a row, and its number in there."""
        shard = int(np.searchsorted(self.ends, row, side="right"))
        return self.indexes[shard], row - (int(self.ends[shard - 1]) if shard else 0)

    def sample(self, row: int) -> tuple[Image, int | str]:
        index, k = self.find(row)
        with index.open() as file:
            image = decode(file.read(*index.image[k].tolist()))
            if self.kind == "none":
                return image, 0
            return image, self.condition(file.read(*index.label[k].tolist()))

    def caption(self, row: int) -> str:
        index, k = self.find(row)
        with index.open() as file:
            return str(self.condition(file.read(*index.label[k].tolist())))

    def condition(self, content: bytes) -> int | str:
        if self.kind == "txt":
            return text(content, "caption")
        if self.kind == "cls":
            try:
                return int(text(content, "class"))
            except ValueError:
                raise UnreadableError(f"the class {content[:20]!r} is no number") from None
        try:
            found = json.loads(text(content, "json"))
        except (ValueError, RecursionError):
            raise UnreadableError("the json does not parse") from None
        value = found.get(self.json_key) if isinstance(found, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise UnreadableError(f"the json has no text under {self.json_key!r}")
        return value.strip()

    def name(self, row: int) -> tuple[str, str]:
        index, k = self.find(row)
        with index.open() as file:
            return str(index.path), key_of(parse(file.block(int(index.image[k][0]) - BLOCK)).name)[0]


def find_shards(pattern: str, pipe: bool) -> list[Path]:
    """Raises ValueError where nothing matches, or where the pattern is no local path."""
    if pattern.startswith(PREFIX):
        return [spooled(part, pipe) for part in braces(pattern)]
    if "://" in pattern:
        raise ValueError(f"data.path={pattern} is no local path; fetch the shards first")
    found: list[Path] = []
    expanded = braces(pattern)
    for part in expanded:
        pattern_like = glob.has_magic(part) and not os.path.exists(part)
        matches = sorted(glob.glob(part)) if pattern_like else [part]
        missing = [match for match in matches if not os.path.isfile(match)]
        if missing or not matches:
            raise ValueError(
                f"data.path={pattern} names {len(expanded)} files or patterns, of which {part} matches none"
            )
        found += map(Path, matches)
    return found


def braces(pattern: str) -> list[str]:
    """`{a,b}` and `{000..127}`, as a shell expands them."""
    try:
        return list(braceexpand(pattern, escape=False))
    except ValueError:
        raise ValueError(f"data.path={pattern} has a brace without its other half") from None


def key_of(name: str) -> tuple[str, str]:
    """(key, suffix): a key ends at the first dot of the file's own name."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


@dataclass(frozen=True)
class Index:
    """Where the samples of one shard stand: (n, 2) of first byte and size."""

    path: Path
    stamp: tuple[int, int]  # size and time of the file
    image: np.ndarray
    label: np.ndarray
    damages: tuple[Damage, ...]

    def open(self) -> Shard:
        return Shard(self)


class Shard:
    """An open shard. Raises OSError where it is gone, ValueError where it is another than was indexed."""

    def __init__(self, index: Index):
        self.descriptor = os.open(index.path, os.O_RDONLY)
        if stamp_of(os.fstat(self.descriptor)) != index.stamp:
            os.close(self.descriptor)
            raise ValueError(f"{index.path} was changed while it was being read; start again")

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def block(self, start: int) -> bytes:
        return os.pread(self.descriptor, BLOCK, start)

    def read(self, start: int, size: int) -> bytes:
        """One member. Raises UnreadableError where what pads it to a whole block is not zero."""
        content = os.pread(self.descriptor, -(-size // BLOCK) * BLOCK, start)
        if len(content) < size or content[size:].strip(b"\0"):
            raise UnreadableError("the archive is damaged here")
        return content[:size]


def index_of(path: Path, kind: str) -> Index:
    return _index(path, stamp_of(os.stat(path)), kind)


def stamp_of(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


@cache  # the parts of a run build the same data several times
def _index(path: Path, stamp: tuple[int, int], kind: str) -> Index:
    """Raises nothing for damage: it is listed."""
    image, label, seen = [], [], set()
    damages: list[Damage] = []
    for key, members in samples(path, damages):
        reason = fault(members, kind) or ("a second sample under this key" if key in seen else "")
        seen.add(key)
        if reason:
            damages.append(Damage(str(path), key, reason))
            continue
        by_suffix = dict(members)
        image.append(next(m[1:3] for s, m in by_suffix.items() if f".{s}" in SUFFIXES))
        label.append(by_suffix[kind][1:3] if kind != "none" else (0, 0))
    places, labels = (np.array(x, np.int64).reshape(-1, 2) for x in (image, label))
    return Index(path, stamp, places, labels, tuple(damages))


def samples(path: Path, damages: list[Damage]) -> Iterator[tuple[str, list[tuple[str, Member]]]]:
    """Consecutive members of one key; what lies between is added to `damages`."""
    current = ""
    members: list[tuple[str, Member]] = []
    for part in walk(path):
        if isinstance(part, Gap):
            damages.append(Damage(str(path), f"byte {part.start}", part.reason))
            continue
        key, suffix = key_of(part.name)
        if key != current and members:
            yield current, members
            members = []
        current = key
        members.append((suffix, part))
    if members:
        yield current, members


def fault(members: list[tuple[str, Member]], kind: str) -> str:
    """Why these members are no sample; empty where they are one."""
    suffixes = [suffix for suffix, _ in members]
    images = [suffix for suffix in suffixes if f".{suffix}" in SUFFIXES]
    if not all(member.trusted for _, member in members):
        return "the archive is damaged behind this sample"
    if len(set(suffixes)) < len(suffixes) or len(images) > 1:
        return "two samples under this key"
    if not images:
        return "there is no image"
    if kind != "none" and kind not in suffixes:
        return f"the {'class' if kind == 'cls' else 'caption'} is missing"
    return ""


def first_kind(shards: list[Path]) -> str:
    """Which of txt, json and cls the first sample has."""
    for shard in shards:
        for _, members in samples(shard, []):
            suffixes = [suffix for suffix, _ in members]
            return next((kind for kind in KINDS if kind in suffixes), "none")
    return "none"
