"""The table in which users of older scripts look up their flags: all are there, each override is accepted."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from tpdm.registry import validate

PAGE = Path(__file__).parent.parent / "docs" / "flags.md"
KNOWN = {
    "--outdir", "--data", "--batch-gpu", "--resolution", "--timesteps", "--base-dim", "--hidden-dim",
    "--num-heads", "--lr", "--kimg", "--fp32", "--resume", "--seeds", "--grid", "--ddpm", "--denoising_type",
    "--text_emb_dim", "--latent_dim", "--dit_depth", "--dit_patch_size", "--labels", "--ema",
}  # fmt: skip
ROWS = re.findall(r"^\| `(--\S+)[^|]*` \| (\w+) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)


def test_every_flag_is_in_the_table():
    assert {flag for flag, *_ in ROWS} == KNOWN
    assert len(ROWS) == PAGE.read_text().count("\n| `--")


def found(cfg, key):
    """The value under a dotted key, or the name of the component there."""
    for name in key.replace("/", ".").split("."):
        cfg = cfg[name]
    return cfg["name"] if isinstance(cfg, dict) else cfg


def spelled(value):
    """As it stands on a command line."""
    return str(value).lower().replace("'", "").replace(" ", "")


@pytest.mark.parametrize(("flag", "command", "overrides"), ROWS)
def test_an_override_of_the_table_composes_and_arrives_under_its_key(flag, command, overrides, composed):
    words = shlex.split(overrides)
    cfg = composed(*words, config=command)
    validate(cfg, importlib.import_module(f"tpdm.{command}").Settings)
    for key, value in (word.split("=", 1) for word in words):
        there = found(cfg, key)
        assert there == float(value) if isinstance(there, float) else spelled(there) == spelled(value)


def test_thousands_of_images_become_updates(composed):
    (words,) = (overrides for flag, _, overrides in ROWS if flag == "--kimg")
    trainer = composed(*shlex.split(words))["trainer"]
    assert trainer["max_steps"] == -(-10_000 * 1000 // trainer["batch_size"])
