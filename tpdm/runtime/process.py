"""How this process waits for its threads and keeps its memory; called before torch is imported."""

import ctypes
import os

SPINS = "5000"  # a tenth of a millisecond
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of glibc's mallopt
LARGEST = 2**31 - 1


def settle() -> None:
    """Idle OpenMP threads spin briefly and then sleep; freed memory stays with the process.

    Threads that spin for long make a busy machine five times slower, threads that sleep at once an idle one
    1.6 times. glibc gives every large buffer back to the kernel when it is freed, and small networks then
    spend half their time on page faults. Whatever the environment says about either is left as it is.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc
    mallopt(MMAP_THRESHOLD, LARGEST)
    mallopt(TRIM_THRESHOLD, LARGEST)
