"""Hydra's side of `launcher=`: the jobs of a sweep are composed here, and run or sent as they are."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import open_dict


class TpdmLauncher(BaseSubmititLauncher):
    """Composes every job now, so that no edit to a config reaches one that waits; tpdm.launcher does
    the rest.

    What it is to do stands under `launcher` in the config, beside the other components.
    """

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        loader = hydra_context.config_loader
        composed: dict[tuple[str, ...], Any] = {}
        compose = loader.load_sweep_config

        @functools.wraps(compose)
        def once(master_config: Any, sweep_overrides: list[str]) -> Any:
            """The sweeper composes every job to see whether it can; that is the one to be sent."""
            key = tuple(sweep_overrides)
            if key not in composed:
                composed[key] = compose(master_config, sweep_overrides)
            return composed[key]

        loader.load_sweep_config = once

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        task: Any = self.task_function
        attempt = functools.partial(task.attempt, debug=bool(self.config.get("debug")))  # type: ignore[union-attr]

        def begin() -> None:
            jobs = [(tuple(given), self.frozen(given)) for given in job_overrides]
            if jobs[0][1]["launcher"]["name"] == "local":
                from tpdm.launcher.here import run

                run(task.main, jobs, attempt)
            else:
                from tpdm.launcher.launch import launch

                launch(task.command, jobs)

        attempt(begin)
        return []  # nothing for the sweeper to look into: failures were told, and counted

    def frozen(self, overrides: Sequence[str]) -> dict[str, Any]:
        """A job's config as plain values, and valid."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))  # type: ignore
        with open_dict(config):
            del config["hydra"]
        return self.task_function.plain(config)  # type: ignore[union-attr]


TARGET = {"_target_": "hydra_plugins.tpdm_launcher.TpdmLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="tpdm", node=TARGET, provider="tpdm")
