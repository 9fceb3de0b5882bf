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
        self,
        total: int,
        name: str,
        *,
        initial: int = 0,
        unit: str = "step",
        silent: bool = False,
        stream: TextIO | None = None,
    ):
        stream = stream or sys.stderr
        bar = stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=name,
            disable=silent,
            unit=unit,
            unit_scale=unit != "step",  # 4.7k, and not 4711, of what comes in thousands
            file=stream if bar else _Lines(stream),
            bar_format=BAR if bar else LINE,
            dynamic_ncols=bar,
            mininterval=0.1 if bar else SECONDS_BETWEEN_LINES,
            maxinterval=SECONDS_BETWEEN_LINES,
            miniters=1,
        )

    def advance(self, by: int = 1, /, **values: float | str) -> None:
        """One step more, or some; floats are shown to three digits. More than were foreseen are the total."""
        self._bar.set_postfix(values, refresh=False)
        self._bar.total = max(self._bar.total, self._bar.n + by)
        self._bar.update(by)

    def end(self) -> None:
        """What is done is all, whatever was foreseen."""
        self._bar.total = self._bar.n

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
