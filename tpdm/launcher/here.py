"""A sweep in this process, one job after the other; its folder is that of any sweep."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from tpdm.launcher.sweep import Jobs, Sent, Sweep, folder_of, names_of, placed, summarises, trains
from tpdm.runtime.process import is_first

Config = dict[str, Any]
Main = Callable[[Config], None]
Attempt = Callable[[Callable[[], None]], None]  # tells of an error, and returns


def run(main: Main, jobs: Jobs, attempt: Attempt) -> None:
    """Calls `main` for every job that is not done yet; one that raises ends none of the others."""
    if not all(trains(cfg) for _, cfg in jobs):  # they leave no runs to tell of later
        for _, cfg in jobs:
            attempt(partial(main, cfg))
        return
    sweep = Sweep(folder_of([cfg for _, cfg in jobs]))
    with sweep.lock() if is_first() else nullcontext():
        missing = _missing(sweep, jobs)
        if is_first():
            print(f"sweep: {sweep.folder}, {len(jobs)} jobs: {len(jobs) - len(missing)} done, "
                  f"{len(missing)} to run", flush=True)  # fmt: skip
        for job, cfg in missing:
            body = partial(main, cfg)
            attempt(partial(_told, sweep, job, body) if is_first() else body)


def _missing(sweep: Sweep, jobs: Jobs) -> list[tuple[Sent, Config]]:
    named = names_of([overrides for overrides, _ in jobs])
    return [
        (
            Sent(name, swept, f"{os.getpid()}_{number}", 1, "here", summarises(cfg)),
            placed(sweep, cfg, name, len(jobs)),
        )
        for number, ((name, swept), (_, cfg)) in enumerate(zip(named, jobs, strict=True))
        if not sweep.done(name)
    ]


def _told(sweep: Sweep, job: Sent, body: Callable[[], None]) -> None:
    """Of this job the sweep's folder tells that it was begun, and how it ended."""
    sweep.record(sys.argv, [job])
    sweep.result_path(job).unlink(missing_ok=True)
    try:
        body()
    except Exception:
        sweep.keep_result(job, traceback.format_exc())
        raise
    sweep.keep_result(job, None)
