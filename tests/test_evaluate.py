"""The table of a finished run, made again from its files."""

import json

import pytest

from tests.runs import command, files
from tpdm import evaluate


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def figures(folder):
    """Every table without what depends on the machine's mood."""
    tables = summary(folder)["tables"]
    return {
        name: [{key: row[key] for key in row if key != "images_per_second"} for row in rows]
        for name, rows in tables.items()
    }


def test_the_table_comes_out_the_same(copy, finished):
    for picture in copy.glob("*s.png"):
        picture.unlink()
    ended = command(evaluate.main, f"run={copy}")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.count("\npredictor  ") == 2
    assert figures(copy) == figures(finished)
    for key in ("seconds", "versions", "commit", "hardware"):
        assert summary(copy)[key] == summary(finished)[key]
    for name in ("samples.png", "steps.png", "schedules.png"):
        assert (copy / name).read_bytes() == (finished / name).read_bytes()


def test_the_batch_size_changes_rounding_alone(copy, finished):
    assert command(evaluate.main, f"run={copy}", "batch_size=5").status == 0
    for name, rows in figures(finished).items():
        for row, other in zip(rows, figures(copy)[name], strict=True):
            assert other.pop("name") == row.pop("name")
            assert other == pytest.approx(row, rel=1e-3, abs=1e-6)


def test_the_last_weights_are_judged_beside_the_averaged_ones(copy, finished):
    before = files(copy)
    assert command(evaluate.main, f"run={copy}", "ema=false").status == 0
    after = files(copy)
    assert all(after[name] == before[name] for name in before if name != ".lock")
    assert figures(copy / "raw") != figures(finished)
    assert (copy / "raw" / "samples.png").exists()
