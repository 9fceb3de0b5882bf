"""How a run starts: its processes, and its folder, held against others."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list

from tpdm.assembly import device_of
from tpdm.runtime.process import join_srun
from tpdm.runtime.run import Run

Config = dict[str, Any]
CHANGEABLE = (  # when a run goes on: where it is, how it is computed, never what
    "run_name", "runs", "debug", "device", "parallel", "launcher", "denoisers",
    "trainer.compile", "trainer.gradient_checkpointing",
)  # fmt: skip
REQUEUED_PATIENCE_S = 120.0  # a node that failed may hold its lock for as long


def accelerator_of(cfg: Config) -> Accelerator:
    """A new one for each run of a sweep: accelerate keeps its device for the whole process."""
    if not dist.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)
    join_srun()
    on_cpu = device_of(cfg["device"]).type == "cpu"
    return Accelerator(cpu=on_cpu)


@contextmanager
def open_run(cfg: Config, accelerator: Accelerator) -> Iterator[Run]:
    """The run's folder, made and held by the main process alone; the others are told its name."""
    if not accelerator.is_main_process:
        yield Run(Path(broadcast_object_list([None])[0]))
        return
    run = Run.create(Path(cfg["runs"]), cfg["run_name"])
    try:
        with run.lock(REQUEUED_PATIENCE_S if "SLURM_RESTART_COUNT" in os.environ else 0):
            resharded = ("data.reshard", "data.workers") if cfg["data"].get("reshard") else ()
            run.keep_config(cfg, ignore=(*CHANGEABLE, *resharded))
            print(f"run: {run.folder}", flush=True)
            broadcast_object_list([str(run.folder)])
            yield run
    except OSError:
        run.discard()
        raise
    except KeyboardInterrupt as stop:
        how = f"the same command with run_name={run.folder.name} goes on from here"
        print(f"tpdm: {str(stop) or 'stopped'}; {how}", file=sys.stderr)
        raise
