"""Files kept open between reads: opening one costs more than reading a latent."""

import os
import weakref
from functools import lru_cache

LIMIT = 256  # files; many systems allow 1,024 a process


class Descriptor:
    """Closed when its last reader lets go of it, so that no thread closes what another one reads."""

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)


@lru_cache(maxsize=LIMIT)
def descriptor(path: str, stamp: int) -> Descriptor:
    """Of a file that is opened again under another stamp. Raises OSError with the path where it is gone."""
    return Descriptor(path)


def stamp_of(folder: str) -> int:
    """Another one when a file of the folder was made, replaced or removed. OSError where it is gone."""
    return os.stat(folder).st_mtime_ns
