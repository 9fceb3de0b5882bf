"""What every test may ask for."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread per worker; read when torch is imported

from collections.abc import Callable
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tpdm.cli import config_dir


@pytest.fixture(scope="session")
def composed() -> Callable[..., dict[str, Any]]:
    """The config of a command line, as the command's body gets it: composed("model=dit_s2")."""

    def composed(*overrides: str, config: str = "train") -> dict[str, Any]:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            plain: Any = OmegaConf.to_container(compose(config, list(overrides)), resolve=True)
            return plain

    return composed
