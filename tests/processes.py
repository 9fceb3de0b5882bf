"""Work that several processes do together, over gloo, in forks of this one."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState


def together(work: Callable[[], Any], folder: Path, count: int = 2) -> list[Any]:
    """What `work` answers in each of `count` processes: tensors and plain Python."""
    folder.mkdir(parents=True)
    children = [child(work, folder, rank, count) for rank in range(count)]
    for pid in children:
        os.waitpid(pid, 0)
    errors = [error.read_text() for error in sorted(folder.glob("*.error"))]
    assert not errors, "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]


def child(work: Callable[[], Any], folder: Path, rank: int, count: int) -> int:
    """A fork of this process that works, keeps what came of it in a file and ends."""
    if pid := os.fork():
        return pid
    try:
        names = {
            "MASTER_PORT": 29500,
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": count,
            "MASTER_ADDR": "localhost",
        }
        with patch.dict(os.environ, {name: str(value) for name, value in names.items()}):
            dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=count)
            AcceleratorState._reset_state(reset_partial_state=True)
            torch.save(work(), folder / f"{rank}.pt")
            dist.barrier()
    except BaseException:
        (folder / f"{rank}.error").write_text(traceback.format_exc())
    finally:
        os._exit(0)
