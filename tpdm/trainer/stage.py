"""One stage of a run: its step, what it must find again after a stop, and the randomness of each step."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from PIL.Image import Image
from torch import Tensor, nn

from tpdm.runtime.checkpoint import Checkpoints
from tpdm.runtime.interrupt import Asked, Interrupt, Preempted
from tpdm.runtime.progress import Progress
from tpdm.runtime.run import Run
from tpdm.runtime.sharding import load_whole, whole
from tpdm.runtime.timings import Stopwatch
from tpdm.runtime.tracking import NullTracker, Tracker

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # torch's half-precision types by their short names


class Stateful(Protocol):
    """What a checkpoint can hold: a module, an optimiser, a schedule, an EMA, a loader."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> object: ...


class Stage:
    """Named for the folder it leaves. Decides on reporting, saving and stopping; a loop only iterates."""

    def __init__(
        self,
        name: str,
        run: Run,
        tracker: Tracker | NullTracker,
        accelerator: Accelerator,
        seed: int,
        mixed_precision: str = "no",
    ):
        """`mixed_precision` is no, bf16 or fp16."""
        self.name, self.run, self.tracker, self.accelerator, self.seed = name, run, tracker, accelerator, seed
        self.mixed_precision = mixed_precision
        self.checkpoints = Checkpoints(run.folder / "checkpoints", name)
        self.progress: Progress | None = None

    def steps(self, max_steps: int, save_every: int, parts: Mapping[str, Stateful]) -> Iterator[int]:
        """Yields each step that is left, from the newest checkpoint on.

        After each, saves if it is time or the user asked to stop; then KeyboardInterrupt says where that was.
        """
        stopwatch = Stopwatch(self.run.folder, self.name)
        first = self.restore(parts)
        self.tracker.rewind(self.name, first - 1)
        main = self.accelerator.is_main_process
        with (
            Interrupt() as interrupt,
            Progress(max_steps, self.name, initial=first, silent=not main) as self.progress,
        ):
            for step in range(first, max_steps):
                torch.manual_seed(self.step_seed(step))  # dropout; all else draws from `generator(step)`
                yield step
                asked = self.on_any_process(interrupt.asked)
                if (step + 1) % save_every == 0 or step + 1 == max_steps or asked:
                    self.save(step + 1, parts, stopwatch)
                    interrupt.saved()
                if asked >= Asked.STOP:
                    stopped = Preempted if asked == Asked.REQUEUE else KeyboardInterrupt
                    raise stopped(f"{self.name} stopped after step {step + 1} of {max_steps}")

    def restore(self, parts: Mapping[str, Stateful]) -> int:
        """Loads the newest checkpoint into `parts`; the step to go on with, 0 where there is none."""
        found = self.checkpoints.load_latest()
        if found is None:
            return 0
        step, state = found
        for name, part in parts.items():
            load_whole(part, state[name])
        return step

    def save(self, step: int, parts: Mapping[str, Stateful], stopwatch: Stopwatch) -> None:
        """Never weights that are no numbers: a step from a finite loss can still lead there."""
        state = {name: whole(part.state_dict()) for name, part in parts.items()}
        for name in (name for name, part in parts.items() if isinstance(part, nn.Module)):
            self.check_finite(
                torch.stack([x.sum().float() for x in state[name].values()]).sum(), step, "sum of weights"
            )
        if self.accelerator.is_main_process:
            self.tracker.flush()
            self.checkpoints.save(step, state)
            stopwatch.save()

    def on_any_process(self, asked: Asked) -> Asked:
        """The most that any process was asked: a signal that meets them in different steps parts nobody."""
        if self.accelerator.num_processes == 1:
            return asked
        most = torch.tensor(int(asked), device=self.accelerator.device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return Asked(int(most))

    def step_seed(self, step: int) -> int:
        """A function of (seed, stage, rank, step): a resumed run draws what an unbroken one would."""
        stage = int.from_bytes(self.name.encode()[:4])
        entropy = (self.seed, stage, self.accelerator.process_index, step)
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.step_seed(step) + 1)

    def autocast(self) -> torch.autocast:
        """The context of a forward pass whose matrix products are in the stage's precision."""
        device, dtype = self.accelerator.device.type, HALVES.get(self.mixed_precision)
        return torch.autocast(device, dtype, enabled=dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales a loss so that float16 can hold its gradients; hands everything on in other precisions."""
        return torch.amp.GradScaler(self.accelerator.device.type, enabled=self.mixed_precision == "fp16")

    def check_finite(self, value: Tensor, step: int, what: str = "loss") -> None:
        """Raises FloatingPointError; the newest checkpoint, from before, stays."""
        if not torch.isfinite(value):
            raise self.not_finite(f"{what} is {value.item()}", step)

    def not_finite(self, what: str, step: int) -> FloatingPointError:
        rank = self.accelerator.process_index
        return FloatingPointError(
            f"the {self.name}'s {what} at step {step}, rank {rank}, seed {self.seed}; "
            f"its last checkpoint is kept in {self.checkpoints.folder}"
        )

    def check_overflow(self, norm: Tensor, step: int, scaler: torch.amp.GradScaler) -> None:
        """The same for a gradient's norm, but where float16 overflowed: the scaler skips that step."""
        if scaler.get_scale() <= 1:  # a larger one is halved until the gradients fit
            self.check_finite(norm, step, "gradient norm")

    def report(self, step: int, values: Mapping[str, float], shown: Mapping[str, float]) -> None:
        """Logs `values` (none: not this step's turn) and moves the progress bar, which shows `shown`."""
        if values:
            self.tracker.log(step, values, self.name)
        if self.progress is not None:
            self.progress.advance(**shown)

    def image(self, step: int, name: str, image: Image) -> None:
        self.tracker.image(step, name, image, self.name)
