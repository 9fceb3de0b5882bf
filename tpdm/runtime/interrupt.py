"""Ctrl-C asks; the loop answers after its step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Turns the first SIGINT or SIGTERM into `requested`; the second raises KeyboardInterrupt at once.

    A forked worker inherits the handler, and the terminal sends Ctrl-C to it too: there it does nothing, so
    that the process which installed it can finish its step with its workers alive.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupt:
        self._owner = os.getpid()
        self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
