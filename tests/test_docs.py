"""The commands that the documentation shows are commands that exist, with settings that are accepted."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tpdm.cli import config_dir, quoted
from tpdm.registry import validate
from tpdm.sampler.grid_file import read_table

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = {"-m", "--help"}


def commands() -> list[str]:
    """Every `python -m tpdm.…` with its settings: of the pages, and of the examples that --help prints."""
    texts = [page.read_text() for page in PAGES] + [file.read_text() for file in (ROOT / "tpdm").glob("*.py")]
    found = [
        match
        for text in texts
        for match in re.findall(r"(?:^ *|`)python -m (tpdm\.[a-z]+ [^`\n]*)", text, re.M)
    ]
    return sorted({command.strip() for command in found})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documentation_is_accepted(command):
    module, *words = shlex.split(command)
    entry = importlib.import_module(module)
    words = [quoted(word) for word in words if word not in FLAGS]
    folder, name = str(config_dir()), module.removeprefix("tpdm.")
    words = [f"sweep={word}" if name == "report" and "=" not in word else word for word in words]
    if "-cd" in words:
        at = words.index("-cd")
        experiment = compose_experiment(ROOT / words[at + 1], words[at + 3], words[at + 4 :])
        validate(experiment, entry.Settings)
        return
    with initialize_config_dir(folder, version_base="1.3"):
        for job in sweep(words):
            cfg = compose(name, job)
            assert not (missing := OmegaConf.missing_keys(cfg)), f"{command} misses {missing}"
            validate(OmegaConf.to_container(cfg, resolve=True), entry.Settings)


def compose_experiment(folder: Path, name: str, overrides: list[str]):
    """An experiment's primary config, beside the groups of conf/."""
    searchpath = f"hydra.searchpath=[file://{config_dir()}]"
    with initialize_config_dir(str(folder), version_base="1.3"):
        return OmegaConf.to_container(compose(name, [searchpath, *overrides]), resolve=True)


def sweep(words: list[str]) -> list[list[str]]:
    """The first job of a sweep, and its last."""

    def pick(word: str, which: int) -> str:
        key, _, value = word.partition("=")
        return (
            word if value.startswith(("[", "'")) or "," not in value else f"{key}={value.split(',')[which]}"
        )

    return [[pick(word, which) for word in words] for which in (0, -1)]


def test_searching_in_python_is_shown_as_it_is_done(finished, tmp_path, monkeypatch):
    """The lines as they stand, but on fewer samples and steps."""
    (lines,) = re.findall(
        r"searched in Python:\n\n```python\n(.*?)```", (ROOT / "docs" / "researchers.md").read_text(), re.S
    )
    for shown, here in {
        "runs/NAME": finished,
        "512": 4,
        "problem, 14, iterations=6": "problem, 2, 1",
    }.items():
        assert shown in lines
        lines = lines.replace(shown, str(here))
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(lines, found)
    assert list(read_table(tmp_path / "table.json")) == [1, 2]
    assert len(found["gits"]) == 7


def test_every_make_target_that_is_shown_exists():
    shown = {
        t for page in PAGES for t in re.findall(r"^(?:    )?make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    made = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"train", "test"} <= shown <= made


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
