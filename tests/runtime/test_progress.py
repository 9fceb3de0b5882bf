import contextlib
import io
import os
import pty
import re
import termios

import pytest

from tpdm.runtime.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_file_gets_a_line_every_ten_seconds(clock):
    stream = io.StringIO()
    with Progress(200, "denoiser", initial=100, stream=stream) as progress:
        for _ in range(100):
            clock[0] += 0.5
            progress.advance(loss=0.123456)
    out = stream.getvalue()
    assert "\r" not in out
    lines = out.splitlines()
    assert lines[0].startswith("denoiser: 100/200  50%")
    assert re.match(r"denoiser: 120/200  60%,  2.00step/s, 00:40 left, loss=0.123", lines[1])
    assert lines[-1].startswith("denoiser: 200/200 100%")
    assert len(lines) <= 7


def read_to_end(descriptor: int) -> str:
    read = b""
    with contextlib.suppress(OSError):  # Linux's end of a pseudo-terminal whose other end is closed
        while part := os.read(descriptor, 10_000):
            read += part
    return read.decode()


def test_a_terminal_gets_a_bar_with_values():
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 100))
    with open(writer, "w") as stream, Progress(3, "denoiser", stream=stream) as progress:
        for _ in range(3):
            progress.advance(loss=0.5)
    out = read_to_end(reader)
    assert re.search(r"denoiser: \|█+\| 3/3 100%, .*left, loss=0.5", out)


def test_other_ranks_are_silent():
    stream = io.StringIO()
    with Progress(2, "denoiser", silent=True, stream=stream) as progress:
        progress.advance(loss=1.0)
    assert stream.getvalue() == ""
