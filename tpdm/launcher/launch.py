"""A sweep from its composed jobs to its end: what is missing is sent, and every failure is told."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tpdm.launcher.clusters import Slurm, SubmititLocal
from tpdm.launcher.frozen import FrozenJob
from tpdm.launcher.snapshot import snapshot
from tpdm.launcher.states import GONE, QUEUED, RUNNING, states
from tpdm.launcher.sweep import (
    CODE,
    JOBS,
    Failure,
    Jobs,
    Sent,
    Sweep,
    folder_of,
    names_of,
    placed,
    summarises,
)
from tpdm.registry import build
from tpdm.runtime.atomic import naming

SEEN_ENDED = 3  # polls in a row, since results travel more slowly than states through a network's files
SLOWEST_POLL_S = 20.0


class SweepFailedError(RuntimeError):
    """Some jobs did not end well; what they said was told already."""


@dataclass(frozen=True)
class Planned:
    """A job that is to be sent."""

    name: str
    swept: dict[str, str]
    job: FrozenJob

    def sent(self, job_id: str, ranks: int, cluster: str) -> Sent:
        return Sent(self.name, self.swept, job_id, ranks, cluster, summarises(self.job.cfg))


def launch(command: str, jobs: Jobs) -> None:
    """Sends every job that is neither done nor queued; where it waits, SweepFailedError if one fails."""
    launcher: Slurm | SubmititLocal = build("launcher", jobs[0][1]["launcher"])
    launcher.check()
    sweep = Sweep(folder_of([cfg for _, cfg in jobs]))
    named = names_of([overrides for overrides, _ in jobs])
    with sweep.lock():
        known = sweep.sent()
        under_way = _under_way([known[name] for name, _ in named if name in known and not sweep.done(name)])
        planned = [
            Planned(name, swept, frozen(command, placed(sweep, cfg, name, len(jobs)), launcher))
            for (name, swept), (_, cfg) in zip(named, jobs, strict=True)
            if not sweep.done(name) and name not in under_way
        ]
        finished = len(jobs) - len(planned) - len(under_way)
        print(f"sweep: {sweep.folder}, {len(jobs)} jobs: {finished} done, {len(under_way)} under way, "
              f"{len(planned)} to run", flush=True)  # fmt: skip
        code = snapshot(sweep.folder / CODE, launcher.allow_dirty) if planned else Path()
        waiting = iter(planned)
        try:
            sent = list(under_way.values()) + _send(launcher, sweep, code, waiting, launcher.at_once)
        except ValueError:  # nothing was sent now
            if not known:
                sweep.clear()
            raise
    if not sent:
        return
    if not launcher.wait:
        print(f"python -m tpdm.report {sweep.folder} tells how they are; to cancel: "
              f"{launcher.how_to_cancel([job.id for job in sent])}")  # fmt: skip
        return
    _collect(launcher, sweep, code, sent, waiting)


def frozen(command: str, cfg: dict[str, Any], launcher: Slurm | SubmititLocal) -> FrozenJob:
    return FrozenJob(command, cfg, launcher.timeout_min, launcher.signal_delay_s, launcher.max_num_timeout)


def _under_way(jobs: Sequence[Sent]) -> dict[str, Sent]:
    """Those of them that wait in a queue or run."""
    now: dict[str, str] = {}
    for cluster in {job.cluster for job in jobs}:
        now |= states([job.id for job in jobs if job.cluster == cluster], cluster)
    return {job.name: job for job in jobs if now[job.id] in (QUEUED, RUNNING)}


def _send(
    launcher: Slurm | SubmititLocal, sweep: Sweep, code: Path, waiting: Any, count: int | None
) -> list[Sent]:
    """Sends the next `count` of those that wait, all with None, and prints their ids."""
    chosen: list[Planned] = list(islice(waiting, count))
    if not chosen:
        return []
    with naming(sweep.folder / JOBS):
        handles = launcher.submit(sweep.folder / JOBS, code, [each.job for each in chosen], sweep.folder.name)
    sent = [
        each.sent(handle.job_id, handle.num_tasks, cluster_of(launcher))
        for each, handle in zip(chosen, handles, strict=True)
    ]
    for job in sent:
        print(f"job {job.id}: {job.name}", flush=True)
    try:
        sweep.record(sys.argv, sent)
    except OSError:
        print(f"tpdm: these jobs were sent, and the sweep does not know of them; to cancel: "
              f"{launcher.how_to_cancel([job.id for job in sent])}", file=sys.stderr)  # fmt: skip
        raise
    return sent


def cluster_of(launcher: Slurm | SubmititLocal) -> str:
    return "slurm" if isinstance(launcher, Slurm) else "local"


def _collect(
    launcher: Slurm | SubmititLocal, sweep: Sweep, code: Path, sent: Sequence[Sent], waiting: Any
) -> None:
    """Waits for the end of every job, tells of each, and in the end of all failures."""
    left, failures = list(sent), list[Failure]()
    try:
        for job, state in ends(sweep, left):
            found = sweep.failures(job, state)
            print(f"job {job.id} ({job.name}) {'failed' if found else 'is done'}", flush=True)
            failures += found
            left += _send(launcher, sweep, code, waiting, 1)
    except KeyboardInterrupt:
        ids = [job.id for job in left]
        print(f"\ntpdm: {len(ids)} jobs go on, nothing was cancelled; python -m tpdm.report {sweep.folder} "
              f"tells how they are; to cancel: {launcher.how_to_cancel(ids)}", file=sys.stderr)  # fmt: skip
        raise
    if failures:
        raise SweepFailedError(_told(sweep, failures, len({failure.job.id for failure in failures})))


def ends(sweep: Sweep, left: list[Sent]) -> Any:
    """Yields each job with its last state as it ends, taken from `left`, to which more may be added."""
    seen_ended: Mapping[str, int] = {}
    begin = time.monotonic()
    while left:
        known = states([job.id for job in left if job.cluster == "slurm"], "slurm")
        known |= states([job.id for job in left if job.cluster == "local"], "local")
        seen_ended = {
            job: seen_ended.get(job, 0) + 1 for job, now in known.items() if now not in (QUEUED, RUNNING)
        }
        for job in list(left):
            whole = len(sweep.results(job)) == job.ranks
            if whole or seen_ended.get(job.id, 0) >= SEEN_ENDED:
                left.remove(job)
                yield job, "it died" if known[job.id] == GONE else known[job.id]
        if left:
            time.sleep(min(SLOWEST_POLL_S, 1 + (time.monotonic() - begin) / 60))


def _told(sweep: Sweep, failures: Sequence[Failure], jobs: int) -> str:
    """Prints every failure with its traceback; one line of all of them."""
    for failure in failures:
        log = sweep.log(failure.job, failure.rank)
        print(
            f"\n--- job {failure.job.id} ({failure.job.name}), rank {failure.rank}, log {log}",
            file=sys.stderr,
        )
        print(failure.text.rstrip(), file=sys.stderr)
    names = ", ".join(dict.fromkeys(failure.job.name for failure in failures))
    return f"{jobs} jobs failed: {names}; the same command runs them again"
