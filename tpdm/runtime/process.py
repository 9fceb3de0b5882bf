"""How this process waits for its threads and keeps its memory; called before torch is imported."""

import ctypes
import os
import signal
import subprocess
import threading
import weakref
from typing import IO

SPINS = "5000"  # a tenth of a millisecond
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of glibc's mallopt
PR_SET_PDEATHSIG = 1  # name of Linux's prctl
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


def keep_from_children(file: IO[bytes]) -> None:
    """Processes forked from here on close `file`: its lock ends with this one, however that ends."""
    ours = weakref.ref(file)
    os.register_at_fork(after_in_child=lambda: (mine := ours()) is not None and mine.close())


def take_children_along() -> None:
    """What the main thread forks from here on is killed when this process dies, even of SIGKILL.

    Linux ends such a child with the thread that forked it, so those of other threads are left alone.
    """
    parents: list[int] = []

    def before() -> None:
        parents[:] = [os.getpid()] if threading.current_thread() is threading.main_thread() else []

    def after_in_child() -> None:
        if parents:
            end_with(parents[0])

    os.register_at_fork(before=before, after_in_child=after_in_child)


def end_with(parent: int) -> None:
    """This process is killed when the main thread of its parent, which forked it, ends; on Linux."""
    try:
        ctypes.CDLL("libc.so.6").prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it died in between
        os._exit(1)


FIRST_PORT, PORTS = 20000, 20000


def join_srun() -> None:
    """Tells torch which task of a plain `srun` this process is, unless somebody has told it already."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks == 1 or "RANK" in os.environ:
        return
    nodes = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
    first = subprocess.run(nodes, capture_output=True, text=True, check=True).stdout.split()[0]
    step = 97 * int(os.environ["SLURM_JOB_ID"]) + int(os.environ["SLURM_STEP_ID"])
    os.environ.update(
        RANK=os.environ["SLURM_PROCID"],
        LOCAL_RANK=os.environ["SLURM_LOCALID"],
        WORLD_SIZE=str(tasks),
        MASTER_ADDR=first,
        MASTER_PORT=str(FIRST_PORT + step % PORTS),
    )


def is_first() -> bool:
    """Whether this is the process, of those that torchrun or srun started together, which writes."""
    join_srun()
    return os.environ.get("RANK", "0") == "0"
