"""Ctrl-C asks; the loop answers after its step. So does a cluster that wants its machine back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None


class Asked(IntEnum):
    """What a loop was asked for, the more urgent the higher."""

    NOTHING, SAVE, STOP, REQUEUE = range(4)


class Preempted(KeyboardInterrupt):
    """Saved, and to go on in another place or at another time."""


def meanings() -> Mapping[int, Asked]:
    """What signals ask for. In a job that submitit started (SUBMITIT_EXECUTOR), USR2 comes ahead of a
    preemption or of the end of its time; SIGTERM comes ahead of whatever SLURM does next, which may be a
    preemption of which nobody else will tell, so the job saves and goes on until it is killed."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return {signal.SIGINT: Asked.STOP, signal.SIGTERM: Asked.STOP}
    return {signal.SIGINT: Asked.STOP, signal.SIGTERM: Asked.SAVE, requeue_signal(): Asked.REQUEUE}


def requeue_signal() -> int:
    """The one that submitit has SLURM send."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


class Interrupt:
    """Turns a signal into `asked`; a second one that asks to stop raises KeyboardInterrupt at once.

    A forked worker inherits the handler, and the terminal and SLURM signal it too: there it does nothing, so
    that the process which installed it can finish its step with its workers alive.
    """

    def __init__(self) -> None:
        self.asked = Asked.NOTHING
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> Interrupt:
        self._owner, self._meanings = os.getpid(), meanings()
        self._previous = {number: signal.signal(number, self._receive) for number in self._meanings}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def saved(self) -> None:
        """That is done."""
        if self.asked == Asked.SAVE:
            self.asked = Asked.NOTHING

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        if self.asked == self._meanings[number] == Asked.STOP:
            raise KeyboardInterrupt
        self.asked = max(self.asked, self._meanings[number])
