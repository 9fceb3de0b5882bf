"""Labels by name, from the attribute file as it is published and as Kaggle has it."""

import zipfile

import pytest

from tests.data.pictures import encoded, epoch
from tpdm.registry import build
from tpdm.types import CondSpec

SETTINGS = {
    "name": "celeba", "labels": ["female", "male"], "size": 8, "channels": 3, "flip": False,
    "test_fraction": 0.0, "workers": 0, "reshard": False, "max_skipped": 0.5,
}  # fmt: skip
TEXT = "3\nMale Smiling\n1.jpg  1 -1\n2.jpg -1 -1\n3.jpg -1  1\n"
CSV = "image_id,Male,Smiling\n1.jpg,1,-1\n2.jpg,-1,-1\n3.jpg,-1,1\n"


@pytest.fixture
def made(tmp_path):
    def made(attributes=TEXT, **choices):
        (tmp_path / "list.txt").write_text(attributes)
        with zipfile.ZipFile(tmp_path / "faces.zip", "w") as file:
            for k in (1, 2, 3):
                file.writestr(f"img_align_celeba/{k}.jpg", encoded(10 * k))
        settings = {**SETTINGS, "path": str(tmp_path / "faces.zip"), **choices}
        return build("data", {**settings, "attributes": str(tmp_path / "list.txt")}, split="train")

    return made


@pytest.mark.parametrize("attributes", [TEXT, CSV])
def test_female_is_not_male(made, attributes):
    data = made(attributes)
    assert data.cond == CondSpec(1, 2)
    assert epoch(data) == {10: 1, 20: 0, 30: 0}
    assert data.parse_labels(["male", "female"]).tolist() == [[1], [0]]


def test_the_first_that_holds_counts_and_faces_without_are_left_out(made):
    assert epoch(made(labels=["smiling", "male"])) == {10: 1, 30: 0}
    assert epoch(made(labels=["not_smiling"])) == {10: 0, 20: 0}


def test_an_unknown_label_is_named_with_the_nearest(made):
    with pytest.raises(
        ValueError, match=r"'smilin' is no attribute; did you mean smiling\?; accepted: female, male"
    ):
        made(labels=["smilin"])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (TEXT.replace("2.jpg -1 -1", "2.jpg -1"), "line 4, is not a file name and 2 times -1 or 1"),
        (TEXT.replace("2.jpg -1 -1", "2.jpg -1 7"), "line 4, is not"),
        ("", "lists no faces"),
        ("3\n", "lists no faces"),
        (TEXT.replace("jpg", "gif"), "none of the 3 images .* is one of the 3 faces"),
    ],
)
def test_a_damaged_attribute_file_is_named(made, attributes, message):
    with pytest.raises(ValueError, match=message):
        made(attributes)
