"""Imports go down, never up and never sideways: the table of floors, held against every import there is."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tpdm

ROOT = Path(tpdm.__file__).parent
FLOORS = [
    {"train", "sample", "evaluate", "prepare", "report", "benchmark"},  # entries
    {
        "cli",
        "pipeline",
        "stages",
        "codec_training",
        "drawing",
        "judging",
        "dry_run",
        "measuring",
        "preparing",
        "leaderboard",
        "competing",
    },
    {
        "check",
        "finished",
        "jury",
        "published",
        "starting",
        "sharing",
        "exporting",
        "model_card",
        "published_pipeline",
    },
    {"assembly"},
    {"suite"},
    {"arena"},
    {"evaluation"},
    {"trainer"},
    {"search"},
    {
        "model",
        "predictor",
        "denoiser",
        "sampler",
        "reward",
        "objective",
        "data",
        "optimizer",
        "parallel",
        "launcher",
    },
    {"codec"},
    {"nn", "scheduler", "density", "blend", "guidance", "runtime"},
    {"types", "registry"},
    {"values"},
]
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")
HEAVY = {
    "diffusers", "transformers", "huggingface_hub", "open_clip", "peft", "sklearn", "scipy", "tensorboard",
    "timm", "torchvision", "matplotlib",
}  # fmt: skip
WRAPPED = {  # library -> the only places that may import it
    "hydra": {"cli.py"},
    "omegaconf": {"cli.py"},
    "diffusers": {
        "scheduler/ddpm.py",
        "sampler/fixed.py",
        "model/unet.py",
        "model/pretrained.py",
        "codec/sd3_text.py",
        "codec/published.py",
        "pipeline.py",
        "codec/kl_vae.py",
        "codec/sd_vae.py",
        "suite/official.py",
        "suite/transformer.py",
    },
    "open_clip": {"reward/hpsv2.py"},
    "huggingface_hub": {"runtime/hub.py", "pipeline.py"},
    "tokenizers": {"codec/transformer_text.py", "codec/tokens.py"},
}


def place(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def part(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(file: Path, nodes=ast.walk) -> Iterator[str]:
    """Every module that a file imports, wherever it does; with `iter_child_nodes`, at its top."""
    for node in nodes(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(file)} imports by a relative name"
            whole = node.module == "tpdm"
            yield from (f"tpdm.{name.name}" for name in node.names) if whole else [node.module]


def neighbours(file: Path) -> set[str]:
    """The other parts of the house that a file imports."""
    names = (module.split(".") for module in imported(file))
    return {name[1] for name in names if name[0] == "tpdm" and len(name) > 1} - {part(file)}


def libraries(file: Path, nodes=ast.walk) -> set[str]:
    names = {module.split(".")[0] for module in imported(file, nodes)}
    return names - set(sys.stdlib_module_names) - {"tpdm"}


def test_every_part_has_a_floor():
    assert {part(file) for file in FILES} == FLOOR.keys()


@pytest.mark.parametrize("file", FILES, ids=place)
def test_imports_go_down(file):
    for other in neighbours(file):
        assert FLOOR[other] > FLOOR[part(file)], f"{place(file)} imports {other}, which is not below it"


def test_objectives_meet_nobody():
    assert not set().union(*(neighbours(file) for file in FILES if part(file) == "objective"))


def test_the_records_need_torch_alone():
    assert libraries(ROOT / "types.py") == {"torch", "jaxtyping"}
    assert not libraries(ROOT / "registry.py")
    assert not libraries(ROOT / "values.py")


@pytest.mark.parametrize("library", WRAPPED)
def test_a_wrapped_library_is_met_where_it_is_wrapped_and_nowhere_else(library):
    assert {place(file) for file in FILES if library in libraries(file)} <= WRAPPED[library]


@pytest.mark.parametrize("file", FILES, ids=place)
def test_a_heavy_library_is_imported_when_it_is_needed(file):
    """A group's files are all read when one of its components is built; what they wrap can wait."""
    assert not HEAVY & libraries(file, ast.iter_child_nodes)
