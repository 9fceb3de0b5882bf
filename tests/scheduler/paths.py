"""One of every path, made once."""

from functools import cache

from tpdm.scheduler.ddpm import ddpm, ddpm_cosine
from tpdm.scheduler.flow import Flow
from tpdm.scheduler.path import NoiseLevelPath

NAMES = ("flow", "ddpm", "ddpm_cosine")
LEVEL_NAMES = ("ddpm_by_level", "ddpm_cosine_by_level")


@cache
def path(name: str, predicts: str | None = None):
    match name:
        case "flow":
            return Flow(shift=3.0, predicts=predicts or "velocity")
        case "ddpm":
            return ddpm(1e-4, 2e-2, 1000, predicts or "eps")
        case "ddpm_cosine":
            return ddpm_cosine(1000, predicts or "eps")
    return NoiseLevelPath(path(name.removesuffix("_by_level"), predicts))
