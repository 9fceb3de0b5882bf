"""A job as it was composed: called in a process of its own, on every rank, as often as it is queued."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tpdm.runtime.atomic import read_json, write_json
from tpdm.runtime.interrupt import Preempted, requeue_signal
from tpdm.runtime.process import take_children_along

EARLY_S = 60  # SLURM may send its signal so much sooner than asked
KILLED_WITHIN_S = 120  # the other ranks wait for the end that requeueing brings


@dataclass(frozen=True)
class FrozenJob:
    """`command` names the entry, such as "train", whose body gets `cfg`."""

    command: str
    cfg: dict[str, Any]
    timeout_min: int
    signal_delay_s: int
    max_num_timeout: int

    def __call__(self) -> None:
        """Runs the entry. What that raises is the traceback in the job's log, its result, and its state."""
        import submitit

        start, environment = time.monotonic(), submitit.JobEnvironment()
        if environment.num_tasks > 1:
            submitit.helpers.TorchDistributedEnvironment().export(
                overwrite=True, set_cuda_visible_devices=False
            )
        take_children_along()
        owner = os.getpid()

        def stop(number: int, frame: FrameType | None) -> None:
            """Between the loops there is nothing to save; and forked workers are not the job."""
            if os.getpid() == owner and environment.global_rank == 0:
                raise Preempted(f"stopped by {signal.Signals(number).name}")

        signal.signal(requeue_signal(), stop)
        try:
            importlib.import_module(f"tpdm.{self.command}").main.__wrapped__(self.cfg)
        except Preempted as stopped:
            signal.signal(requeue_signal(), signal.SIG_IGN)
            print(f"{stopped}; to be queued again", flush=True)
            self.requeue(environment, time.monotonic() - start)
        except KeyboardInterrupt as interrupt:  # no Exception, and so no failure to submitit
            raise InterruptedError(str(interrupt) or "interrupted") from interrupt

    def requeue(self, environment: Any, seconds: float) -> None:
        """Leaves, and is back under the same id. Raises TimeoutError where its time was over too often."""
        if environment.global_rank != 0:
            time.sleep(KILLED_WITHIN_S)
            sys.exit(1)
        left = self.timeouts_left(environment.paths.submitted_pickle, seconds)
        environment._requeue(left)  # of SLURM: scontrol requeue
        sys.exit(1)

    def timeouts_left(self, pickle: Path, seconds: float) -> int:
        """Counts, beside the job's pickle, how often its time was over; a preemption is none of those."""
        path = pickle.with_suffix(".timeouts.json")
        count = read_json(path) if path.exists() else 0
        if seconds >= 60 * self.timeout_min - self.signal_delay_s - EARLY_S:
            count += 1
            write_json(path, count)
        if count > self.max_num_timeout:
            raise TimeoutError(
                f"the job's {self.timeout_min} minutes were over {count} times; the same command goes on, "
                "with a larger launcher.timeout_min or launcher.max_num_timeout"
            )
        return self.max_num_timeout - count
