"""A progress bar on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from tqdm import tqdm

NUMBERS = "{n_fmt}/{total_fmt} {percentage:3.0f}%, {rate_fmt}, {remaining} left{postfix}"
BAR = "{desc}: |{bar:24}| " + NUMBERS
LINE = "{desc}: " + NUMBERS
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Steps done of `total`, their rate, the time left and the latest values; used as a context manager."""

    def __init__(
        self, total: int, name: str, *, initial: int = 0, silent: bool = False, stream: TextIO | None = None
    ):
        stream = stream or sys.stderr
        bar = stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=name,
            disable=silent,
            unit="step",
            file=stream if bar else _Lines(stream),
            bar_format=BAR if bar else LINE,
            dynamic_ncols=bar,
            mininterval=0.1 if bar else SECONDS_BETWEEN_LINES,
            maxinterval=SECONDS_BETWEEN_LINES,
            miniters=1,
        )

    def advance(self, **values: float | str) -> None:
        """One step more; floats are shown to three digits."""
        self._bar.set_postfix(values, refresh=False)
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class _Lines:
    """What tqdm redraws in place, as lines: a log file has no carriage return."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.replace("\r", "").rstrip():
            self.stream.write(line + "\n")

    def flush(self) -> None:
        self.stream.flush()
