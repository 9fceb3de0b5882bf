"""Prompts without images: what a predictor explores and a sampler draws."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tpdm.data.source import Batch, Endless, Place
from tpdm.data.stored import side
from tpdm.registry import Fraction, Positive, register
from tpdm.types import DataShape

KEYS = ("prompt", "caption", "text")
KINDS = (".txt", ".json", ".jsonl")


@register("data", "prompts")
class Prompts(Endless):
    """`path` is a .txt (one a line), a .json (a list) or a .jsonl; entries are strings, or mappings with a
    `prompt`, a `caption` or a `text`. `size` and `channels` are of the images to be drawn."""

    cond = None

    def __init__(
        self,
        path: str,
        size: Positive[int],
        channels: Literal[1, 3],
        test_fraction: Fraction[float],
        *,
        split: str,
    ):
        prompts = read_prompts(Path(path))
        self.prompts = [prompts[row] for row in side(len(prompts), split, test_fraction)]
        if not self.prompts:
            raise ValueError(
                f"data.path={path} has {len(prompts)} prompts, "
                f"of which data.test_fraction={test_fraction:g} leaves none to {split}"
            )
        self.shape = DataShape(channels, size, size)

    def at(self, place: Place) -> Batch:
        raise ValueError("data=prompts has no images, so no denoiser can be trained on it")

    def batch(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """No images (n, 0, H, W), and n prompts."""
        index = torch.randint(len(self.prompts), (n,), generator=generator)
        _, height, width = self.shape
        return torch.empty(n, 0, height, width), [self.prompts[k] for k in index.tolist()]

    def texts(self) -> list[str]:
        return self.prompts

    def parse_labels(self, labels: list[str | int]) -> list[str]:
        return list(map(str, labels))


def read_prompts(path: Path, key: str = "data.path") -> list[str]:
    """Raises ValueError with the file, which the setting `key` names, and the line that is none."""
    if not path.is_file():
        seen = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{key}={path} {seen}; accepted: a file, {', '.join(KINDS)}")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8, at byte {error.start}") from None
    return [prompt_of(value, where) for where, value in entries(path, content, key)]


def entries(path: Path, content: str, key: str) -> Iterator[tuple[str, Any]]:
    """(where it stands, what it is)."""
    if path.suffix == ".json":
        values = parse_json(content, str(path))
        if not isinstance(values, list):
            raise ValueError(f"{path} is no list of prompts")
        yield from ((f"{path}, entry {k}", value) for k, value in enumerate(values))
        return
    if path.suffix not in KINDS:
        raise ValueError(f"{key}={path} is not understood; accepted: {', '.join(KINDS)}")
    for number, line in enumerate(content.split("\n"), 1):
        if stripped := line.strip():
            where = f"{path}, line {number}"
            yield where, parse_json(stripped, where) if path.suffix == ".jsonl" else stripped


def parse_json(content: str, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}, is not JSON ({error})") from None


def prompt_of(value: Any, where: str) -> str:
    if isinstance(value, dict):
        value = next((value[key] for key in KEYS if key in value), None)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}, is no prompt; write a string, or a mapping with {', '.join(KEYS)}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):  # JSON's escapes can say it
        raise ValueError(f"{where}, has a half of a letter, between \\ud800 and \\udfff, without the other")
    return value.strip()
