from types import SimpleNamespace

import pytest

from tpdm.launcher import frozen
from tpdm.launcher.frozen import FrozenJob

MINUTE = 60


def test_time_outs_are_counted_and_preemptions_are_not(tmp_path):
    job = FrozenJob("train", {}, timeout_min=60, signal_delay_s=120, max_num_timeout=2)
    pickle = tmp_path / "1_submitted.pkl"
    assert [job.timeouts_left(pickle, seconds) for seconds in (MINUTE, 30 * MINUTE, 58 * MINUTE)] == [2, 2, 1]
    assert job.timeouts_left(pickle, 57 * MINUTE) == 0  # SLURM may be a minute early
    assert job.timeouts_left(pickle, MINUTE) == 0
    with pytest.raises(TimeoutError, match=r"60 minutes were over 3 times.*launcher\.timeout_min"):
        job.timeouts_left(pickle, 58 * MINUTE)


def test_only_rank_0_queues_the_job_again_and_the_others_wait_for_it(tmp_path, monkeypatch):
    job = FrozenJob("train", {}, timeout_min=60, signal_delay_s=120, max_num_timeout=2)
    said = []
    monkeypatch.setattr(frozen.time, "sleep", lambda seconds: said.append(("waits", seconds)))
    paths = SimpleNamespace(submitted_pickle=tmp_path / "1_submitted.pkl")
    for rank in (1, 0):
        environment = SimpleNamespace(
            global_rank=rank, paths=paths, _requeue=lambda left: said.append(("queued", left))
        )
        with pytest.raises(SystemExit):
            job.requeue(environment, MINUTE)
    assert said == [("waits", frozen.KILLED_WITHIN_S), ("queued", 2)]
