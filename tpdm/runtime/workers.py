"""Tasks dealt to several processes, which are forked from this one and end with it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from tpdm.runtime.process import end_with

Task = TypeVar("Task")
POLL_S = 0.5


class BusyError(Exception):
    """What a task needs is being made by another process; it stands at `path` once it is there."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"another process is just making {self.path}; start again when that one has ended"


def each(
    work: Callable[[Task], object], tasks: Sequence[Task], processes: int, tick: Callable[[], object]
) -> None:
    """Does every task, in its turn, in so many processes of one thread each; in this one where that is 1.

    A task that meets a BusyError is put off until what it waits for is there. `tick` is called about twice a
    second. The first error of a task ends them all and is raised here; RuntimeError where a process dies.
    """
    if processes == 1:
        for task in tasks:
            work(task)
            tick()
        return
    crew = [_hired(work) for _ in range(min(processes, len(tasks)))]
    try:
        _deal(list(tasks), crew, tick)
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()


@contextmanager
def one_thread() -> Iterator[None]:
    """As it is in each of several processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Worker(NamedTuple):
    process: BaseProcess
    line: Connection  # a task goes down, None or the error that it met comes back


def _deal(left: list[Task], crew: list[Worker], tick: Callable[[], object]) -> None:
    put_off: list[tuple[Task, Path]] = []
    at: dict[Connection, Task] = {}
    free = [worker.line for worker in crew]
    while left or put_off or at:
        idle = not (at or left)
        if idle and not any(path.exists() for _, path in put_off):
            time.sleep(POLL_S)  # somebody else is at what all wait for
        ready = [task for task, path in put_off if path.exists() or idle]
        put_off = [(task, path) for task, path in put_off if task not in ready]
        left = ready + left
        while free and left:
            line = free.pop()
            at[line] = left.pop(0)
            line.send(at[line])
        answered = wait(list(at), POLL_S)
        for line in [line for line in at if line in answered]:
            task, met = at.pop(line), _answer(line)
            free.append(line)
            if isinstance(met, BusyError):
                put_off.append((task, met.path))
            elif met is not None:
                raise met
        tick()


def _answer(line: Connection) -> BaseException | None:
    try:
        met: BaseException | None = line.recv()
    except EOFError:
        raise RuntimeError(
            "a process that worked for this one was killed; was there too little memory?"
        ) from None
    return met


def _hired(work: Callable[[Task], object]) -> Worker:
    ours, theirs = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_serve, args=(work, theirs, os.getpid()), daemon=True)
    process.start()
    theirs.close()  # or its end would not be seen when the process dies
    return Worker(process, ours)


def _serve(work: Callable[[Task], object], line: Connection, parent: int) -> None:
    """Until it is killed; a Ctrl-C is for the parent. torch's threads were not forked: it does without."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
    torch.set_num_threads(1)
    while True:
        task = line.recv()
        try:
            work(task)
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))
            line.send(_sendable(error))
        else:
            line.send(None)


def _sendable(error: Exception) -> Exception:
    """Itself, or what it says where it does not survive the way."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
