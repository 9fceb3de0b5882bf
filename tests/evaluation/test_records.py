"""A folder of drawn images that something happened to."""

import json

import pytest
from PIL import Image

from tpdm.evaluation.records import Record, Records

SETTINGS = {"seed": 7}


def record(image):
    return Record(image, "a cat", 7 + image, "3 steps", 2, [1.0, 0.5, 0.0], {"pick": None})


@pytest.fixture
def records(tmp_path):
    kept = Records.open(tmp_path / "out", SETTINGS)
    for image in (0, 1):
        kept.keep(record(image), Image.new("L", (4, 4)))
    return kept


def test_what_was_kept_is_found_again(records):
    again = Records.open(records.folder, SETTINGS)
    assert [again.find("3 steps", image) for image in (0, 1, 2)] == [record(0), record(1), None]
    assert again.picture(record(1)).size == (4, 4)


def edited(**changes):
    return lambda kept: json.dumps({**json.loads(kept), **changes})


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda kept: kept[:40], "is not JSON"),
        (lambda kept: "[]", "holds no JSON object"),
        (lambda kept: '{"image": 1}', "is no record of image 1 by 3 steps; delete it"),
        (edited(more=1), "is no record of image 1 by 3 steps; delete it"),
        (edited(nfe="many"), "is no record of image 1 by 3 steps; delete it"),
        (edited(nfe=3), "is no record of image 1 by 3 steps; delete it"),
        (edited(image=0), "is no record of image 1 by 3 steps; delete it"),
        (edited(schedule="predictor"), "is no record of image 1 by 3 steps; delete it"),
    ],
)
def test_a_damaged_record_is_named(records, damage, line):
    path = records.folder / "3_steps" / "00001.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=line) as refused:
        records.find("3 steps", 1)
    assert str(refused.value).startswith(str(path))
    path.unlink()
    assert records.find("3 steps", 1) is None


@pytest.mark.parametrize("size", [0, 20, 45])
def test_a_damaged_picture_is_named(records, size):
    path = records.folder / record(1).file
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"3_steps/00001\.png is no whole picture .*; delete it, and the"):
        records.picture(record(1))
