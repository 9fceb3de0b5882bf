"""Schedules in a JSON file: one of them, a list of noise levels, or a table of the best for every N."""

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.runtime.atomic import read_json, write_json

Levels = Float[Tensor, "N+1"]
COUNT = re.compile(r"[1-9][0-9]{0,5}")  # steps of a schedule, in one spelling


def write_table(path: Path, table: Mapping[int, Levels]) -> None:
    """{"2": [1.0, 0.4, 0.0], ...} by rising N; float32 survives bit for bit."""
    write_json(path, {str(n): table[n].tolist() for n in sorted(table)})


def read_table(path: Path) -> dict[int, Levels]:
    """The inverse. Raises ValueError with one line where the file is missing or holds something else."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(map(COUNT.fullmatch, content)):
        raise ValueError(f'{path} is no JSON table of schedules, such as {{"2": [1, 0.4, 0]}}')
    table = {int(n): _levels(row, f"{path}: {n}") for n, row in content.items()}
    for n, levels in table.items():
        if len(levels) != n + 1:
            raise ValueError(f"{path}: {n} is a schedule of {len(levels) - 1} steps")
    return table


def read_grid(path: Path, num_steps: int) -> Levels:
    """The file's schedule of so many steps. Raises ValueError naming the numbers of steps that it has."""
    key = f"sampler.grid.path={path}"
    content = read_json(path)
    if isinstance(content, dict):
        table = read_table(path)
        if num_steps not in table:
            raise ValueError(f"sampler.num_steps={num_steps}, but {key} has only N = {_spoken(table)}")
        return table[num_steps]
    levels = _levels(content, key)
    if len(levels) != num_steps + 1:
        raise ValueError(f"sampler.num_steps={num_steps}, but {key} has {len(levels) - 1} steps")
    return levels


def _levels(content: Any, key: str) -> Levels:
    if not isinstance(content, list) or not all(type(level) in (int, float) for level in content):
        raise ValueError(f"{key} is no JSON list of noise levels, such as [1, 0.4, 0]")
    inside = all(0 <= level <= 1 for level in content)  # an integer of thousands of digits is no float
    levels = torch.tensor(content if inside else [], dtype=torch.float32)
    if len(levels) < 2 or levels[0] != 1 or levels[-1] != 0 or not (levels.diff() < 0).all():
        raise ValueError(f"{key} does not fall from 1 to 0 step by step: {shorten(str(content), 200)}")
    return levels


def _spoken(table: Mapping[int, Levels]) -> str:
    return ", ".join(map(str, sorted(table))) or "none"
