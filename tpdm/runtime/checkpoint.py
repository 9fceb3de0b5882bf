"""Checkpoints of which the newest can always be loaded, whenever the process was killed."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tpdm.runtime.atomic import TEMPORARY, naming, read_json, whole_file, write_json
from tpdm.runtime.fingerprint import Fingerprint, Fingerprinted


class Checkpoints:
    """`<prefix>_<step>.pt` with its manifest `<prefix>_<step>.pt.json`, which is written last: a checkpoint
    exists when both do. Only the holder of the run's lock may save; anybody may load."""

    def __init__(self, folder: Path, prefix: str, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep={keep} checkpoints; at least 1 is needed to resume")
        self.folder = Path(folder)
        self.prefix = prefix
        self.keep = keep

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Writes tensors and plain Python, then removes all but the `keep` newest."""
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.prefix}_{step:08d}.pt"
        before = self._fingerprints(path) if path in self._complete() else []
        with whole_file(path) as file:
            writer = Fingerprinted(file)
            _write(state, writer)
            if before:  # the same step again: until the rename is done, either content is right
                write_json(_manifest(path), [asdict(f) for f in (*before, writer.fingerprint)])
        write_json(_manifest(path), [asdict(writer.fingerprint)])
        self._prune()
        return path

    def load_latest(self) -> tuple[int, dict[str, Any]] | None:
        """(step, state) of the newest checkpoint, on the CPU; a ValueError names one that is damaged."""
        complete = self._complete()
        if not complete:
            return None
        *older, newest = complete
        fault = self._fault(newest)
        if fault is not None:
            otherwise = f"go on from {older[-1].name}" if older else "start again"
            raise ValueError(f"{newest} {fault}; delete it to {otherwise}")
        return _step(newest), torch.load(newest, map_location="cpu", weights_only=True)

    def _fault(self, path: Path) -> str | None:
        try:
            faults = [fingerprint.fault(path) for fingerprint in self._fingerprints(path)]
        except ValueError as error:
            return f"cannot be verified: {error}"
        return None if None in faults else faults[-1]

    def _fingerprints(self, path: Path) -> list[Fingerprint]:
        manifest = _manifest(path)
        try:
            fingerprints = [Fingerprint(**entry) for entry in read_json(manifest)]
        except TypeError:
            fingerprints = []
        if not fingerprints:
            raise ValueError(f"{manifest} is no manifest of a checkpoint")
        return fingerprints

    def _complete(self) -> list[Path]:
        """Checkpoints with a manifest, oldest first."""
        name = re.compile(re.escape(self.prefix) + r"_\d{8,}\.pt")
        files = [p for p in self.folder.glob("*.pt") if name.fullmatch(p.name) and _manifest(p).exists()]
        return sorted(files, key=_step)

    def _prune(self) -> None:
        """Removes old checkpoints, halves of checkpoints, and what a killed process was writing."""
        kept = {f for path in self._complete()[-self.keep :] for f in (path, _manifest(path))}
        name = re.compile(rf"\.?{re.escape(self.prefix)}_\d{{8,}}\.pt(\.json)?(\.\d+{re.escape(TEMPORARY)})?")
        stale = {p for p in self.folder.iterdir() if name.fullmatch(p.name)} - kept
        for path in sorted(stale, reverse=True):  # the manifest goes before its checkpoint
            path.unlink(missing_ok=True)


def _write(state: dict[str, Any], file: Fingerprinted) -> None:
    try:
        torch.save(state, file)  # type: ignore[arg-type]  # it only calls write()
    except RuntimeError as error:  # torch hides a failed write behind an error of its own
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def _manifest(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _step(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])
