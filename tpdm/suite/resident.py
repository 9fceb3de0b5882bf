"""python -m tpdm.suite.resident FOLDER BATCH_SIZE SEED EPOCHS: bytes resident after each epoch of latents.

A process of its own, since one that has done other things hides what is lost in what they have freed.
"""

import resource
import subprocess
import sys
from itertools import islice
from pathlib import Path

from tpdm.data.latents import Latents
from tpdm.data.loader import Loader
from tpdm.runtime.process import settle


def resident_after(folder: Path, batch_size: int, seed: int, epochs: int) -> list[int]:
    """Bytes after each epoch of a fresh process that reads and does nothing else."""
    words = [sys.executable, "-m", __name__, *map(str, (folder, batch_size, seed, epochs))]
    return [int(line) for line in subprocess.check_output(words, text=True).split()]


def opened(folder: str) -> Latents:
    """Read in this thread alone."""
    return Latents(folder, 0.0, 0, False, 0.0, split="train")


def resident() -> int:
    """Bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(folder: str, batch_size: str, seed: str, epochs: str) -> None:
    settle()
    data = opened(folder)
    loader = Loader(data, int(batch_size), int(seed))
    for _ in range(int(epochs)):
        for _ in islice(loader, -(-len(data) // int(batch_size))):
            pass
        print(resident())


if __name__ == "__main__":
    main(*sys.argv[1:])
