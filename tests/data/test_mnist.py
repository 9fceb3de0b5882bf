"""IDX files as they are published, and each way they can be broken."""

import gzip

import numpy as np
import pytest

from tests.data.pictures import epoch, idx
from tpdm.registry import build
from tpdm.types import CondSpec, DataShape

SETTINGS = {
    "name": "mnist", "num_classes": 10, "size": 28, "channels": 1, "flip": False, "workers": 0,
    "reshard": False, "max_skipped": 0.5,
}  # fmt: skip


def flat(*shades):
    return np.stack([np.full((28, 28), shade) for shade in shades])


def made(folder, split="train"):
    return build("data", {**SETTINGS, "path": str(folder)}, split=split)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(flat(0, 50, 200))))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx([7, 0, 9]))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx(flat(100)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx([3]))
    return tmp_path


def test_images_meet_their_labels_zipped_or_not(folder):
    data = made(folder)
    assert (data.shape, data.cond) == (DataShape(1, 28, 28), CondSpec(1, 10))
    assert epoch(data) == {0: 7, 50: 0, 200: 9}
    assert epoch(made(folder, "test")) == {100: 3}


def test_a_label_out_of_range_is_skipped(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx([7, 10, 9]))
    assert epoch(made(folder)) == {0: 7, 200: 9}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx(flat(1, 2, 3)))[:-9], "is damaged"),
        (idx(flat(1, 2, 3)), "is damaged"),
        (gzip.compress(idx(flat(1, 2, 3))[:-1]), "has 2367 bytes; its header says 2368"),
        (gzip.compress(idx(flat(1, 2, 3))[:7]), "has 7 bytes; its header says 16"),
        (gzip.compress(idx([1, 2, 3])), "is no IDX file of bytes in 3 dimensions"),
        (gzip.compress(idx(flat(1, 2))), "has 2 images for 3 labels"),
    ],
)
def test_a_damaged_file_is_named(folder, content, message):
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte\.gz {message}"):
        made(folder)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no train-images-idx3-ubyte; accepted names: "):
        made(tmp_path)
