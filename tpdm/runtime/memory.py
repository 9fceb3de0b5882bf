"""Running out of memory, told with what it was running out for."""

from collections.abc import Iterator
from contextlib import contextmanager

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
