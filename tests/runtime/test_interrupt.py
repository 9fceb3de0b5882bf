import os
import signal

import pytest

from tpdm.runtime.interrupt import Asked, Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_insists(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.asked == Asked.NOTHING
        os.kill(os.getpid(), number)
        assert interrupt.asked == Asked.STOP
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_forked_worker_ignores_it():
    with Interrupt() as interrupt:
        pid = os.fork()
        if pid == 0:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            os._exit(7 if interrupt.asked == Asked.NOTHING else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert interrupt.asked == Asked.NOTHING


def test_in_a_job_the_cluster_asks_to_save_and_to_come_back(monkeypatch):
    """SIGTERM and USR2 of one preemption, in either order and however often, are no impatience."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for order in ([signal.SIGTERM, signal.SIGUSR2], [signal.SIGUSR2, signal.SIGTERM]):
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.asked == Asked.SAVE
            interrupt.saved()
            assert interrupt.asked == Asked.NOTHING
            for number in 2 * order:
                os.kill(os.getpid(), number)
            interrupt.saved()
            assert interrupt.asked == Asked.REQUEUE
