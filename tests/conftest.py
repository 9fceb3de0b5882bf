"""What every test may ask for."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread per worker; read when torch is imported

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.runs import TINY, command
from tpdm import registry, train
from tpdm.cli import config_dir


@pytest.fixture(scope="session")
def composed() -> Callable[..., dict[str, Any]]:
    """The config of a command line, as the command's body gets it: composed("model=dit_s2")."""

    def composed(*overrides: str, config: str = "train") -> dict[str, Any]:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            plain: Any = OmegaConf.to_container(compose(config, list(overrides)), resolve=True)
            return plain

    return composed


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A finished run with every stage, made once for all workers; who changes or locks it takes a copy."""
    base = tmp_path_factory.getbasetemp()
    runs = (base if worker_id == "master" else base.parent) / "runs"
    runs.mkdir(exist_ok=True)
    with FileLock(runs / "lock"):  # a second worker finds it finished
        ended = command(train.main, *TINY, f"runs={runs}", "run_name=finished")
    assert ended.status == 0, ended.err
    return runs / "finished"


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished run, for one test alone."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


class Capped:
    """A sampler, hardly, that takes a budget and asks no predictor."""

    def __init__(self, *, nfe: float | None = None, cost: float | None = None, max_nfe: int | None = None):
        self.budget = nfe, cost, max_nfe

    def check(self, path: Any) -> None: ...


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The config of one that nothing knows by name; it keeps what it is asked for as `budget`."""
    monkeypatch.setitem(registry._components, ("sampler", "capped"), Capped)
    return {"name": "capped"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """disk(options) -> a small file system of its own."""
    mounted = []

    def disk(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting needs a privilege that this user lacks")
        mounted.append(folder)
        return folder

    yield disk
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
