"""Digits from a forked worker, slowly if asked, and with an accident at the fourth batch."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Literal

from tpdm.data.digits import Digits
from tpdm.evaluation import digit_classifier
from tpdm.registry import NonNegative, register

digit_classifier.STEPS = 10  # a hasty judge


@register("data", "troubled")
class Troubled(Digits):
    def __init__(
        self, seconds: NonNegative[float], trouble: Literal["none", "raise", "kill", "rank1"], *, split: str
    ):
        super().__init__(split=split)
        self.seconds, self.trouble = seconds, trouble
        self.worker = None

    def at(self, place):
        if self.worker is None:  # forked as a loader's workers are, with the handlers that the loop installed
            self.worker = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
        if place.position == 3 * place.size * place.world_size:
            self.accident()
        time.sleep(self.seconds)
        return self.worker.submit(Digits.at, self, place).result()

    def accident(self):
        rank = int(os.environ.get("RANK", "0"))
        if self.trouble == "raise" or (self.trouble == "rank1" and rank == 1):
            raise RuntimeError(f"an accident on rank {rank}")
        if self.trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def __getstate__(self):
        return {**self.__dict__, "worker": None}
