import os
import signal

import pytest

from tpdm.runtime.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_insists(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), number)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_forked_worker_ignores_it():
    with Interrupt() as interrupt:
        pid = os.fork()
        if pid == 0:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            os._exit(7 if not interrupt.requested else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert not interrupt.requested
