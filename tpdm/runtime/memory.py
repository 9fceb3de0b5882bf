"""Running out of memory, told with what it was running out for."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Raises MemoryError that names both, where the device's memory, or the machine's, is not enough."""
    try:
        yield
    except RuntimeError as error:  # of which torch.OutOfMemoryError is one; a CPU's has no class of its own
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise MemoryError(f"out of memory with {what}; {remedy}") from error


def memory_of(rows: int, what: str, key: str) -> AbstractContextManager[None]:
    """The same for a batch of `rows`, whose size is the setting `key`."""
    return memory_for(f"{rows} {what} at once ({key})", f"{key}={rows // 2 or 1} halves them")
