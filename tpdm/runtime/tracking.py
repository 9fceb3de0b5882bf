"""Where a run's numbers go: metrics.jsonl, a line per step, and TensorBoard events, a folder per stage."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tpdm.runtime.atomic import naming, whole_file

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch.utils.tensorboard import SummaryWriter

METRICS, EVENTS = "metrics.jsonl", "tensorboard"


class Tracker:
    """Each stage counts its own steps; a stage that resumes calls `rewind` before it logs."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter  # slow, and only the main process needs it

        self.path = Path(folder) / METRICS
        self.events = Path(folder) / EVENTS
        self._new_writer = SummaryWriter
        self._writers: dict[str, SummaryWriter] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def log(self, step: int, values: Mapping[str, float], stage: str) -> None:
        """Appends the line {"stage", "step", **values}, with null for what is not finite, and plots each."""
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        line = json.dumps({"stage": stage, "step": step, **finite}, allow_nan=False)
        with naming(self.path), open(self.path, "ab") as file:
            file.write(line.encode() + b"\n")
        for name, x in numbers.items():
            self._writer(stage).add_scalar(name, x, step)

    def image(self, step: int, name: str, image: Image, stage: str) -> None:
        pixels = np.asarray(image.convert("RGB"))  # (H, W, 3)
        self._writer(stage).add_image(name, pixels, step, dataformats="HWC")

    def histogram(self, step: int, name: str, values: Tensor, stage: str) -> None:
        self._writer(stage).add_histogram(name, values.detach().float().cpu(), step)

    def rewind(self, stage: str, step: int) -> None:
        """Forgets what `stage` logged after `step` (-1: everything), and a last line cut short by a kill."""
        with open(self.path, "rb") as file, whole_file(self.path) as whole:
            whole.writelines(line for line in file if line.endswith(b"\n") and not _later(line, stage, step))
        if writer := self._writers.pop(stage, None):
            writer.close()
        self._writers[stage] = self._new_writer(str(self.events / stage), purge_step=step + 1)

    def adopt(self, folder: Path, stage: str) -> None:
        """Takes over what the tracker of another run logged of that stage, in place of what is here."""
        self.rewind(stage, -1)
        with (
            open(self.path, "rb") as own,
            open(folder / METRICS, "rb") as other,
            whole_file(self.path) as whole,
        ):
            whole.writelines(line for line in other if json.loads(line)["stage"] == stage)
            whole.writelines(own)
        self._writers.pop(stage).close()
        shutil.rmtree(self.events / stage, ignore_errors=True)
        shutil.copytree(folder / EVENTS / stage, self.events / stage)

    def flush(self) -> None:
        """Brings what was logged to the disk; called before the checkpoint that will not log it again."""
        with naming(self.path), open(self.path, "ab") as file:
            os.fsync(file.fileno())
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, stage: str) -> SummaryWriter:
        if stage not in self._writers:
            self._writers[stage] = self._new_writer(str(self.events / stage))
        return self._writers[stage]


class NullTracker:
    """The tracker of every process but the main one."""

    def log(self, step: int, values: Mapping[str, float], stage: str) -> None: ...

    def image(self, step: int, name: str, image: Image, stage: str) -> None: ...

    def histogram(self, step: int, name: str, values: Tensor, stage: str) -> None: ...

    def rewind(self, stage: str, step: int) -> None: ...

    def adopt(self, folder: Path, stage: str) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _later(line: bytes, stage: str, step: int) -> bool:
    try:
        entry: dict[str, Any] = json.loads(line)
        return entry["stage"] == stage and entry["step"] > step
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{METRICS} has a line that is no entry: {line[:60]!r}; delete it to go on"
        ) from None
