"""Each way to say what an image shows, in a folder and in a zip; what is broken is listed or ends the run."""

import json
import os
import tracemalloc
import zipfile

import pytest

import tpdm.data.files
from tests.data.pictures import encoded, epoch
from tpdm.data.damage import TooManySkippedError, UnreadableError
from tpdm.data.files import open_files
from tpdm.registry import build
from tpdm.types import CondSpec, DataShape

SETTINGS = {
    "name": "folder", "labels": "auto", "num_classes": None, "size": 8, "channels": 3, "flip": True,
    "test_fraction": 0.0, "workers": 0, "reshard": False, "max_skipped": 0.5,
}  # fmt: skip


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture(params=["folder", "zip"])
def made(request, tmp_path):
    """made(files, **choices): the data, from a folder or from a zip of it."""

    def made(files, **choices):
        path = tmp_path / "images"
        path.mkdir()
        write(path, files)
        if request.param == "zip":
            with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
                for name in files:
                    file.write(path / name, name)
            path = tmp_path / "images.zip"
        settings = {**SETTINGS, "path": str(path), **choices}
        return build("data", settings, split="train", skipped=tmp_path / "skipped.jsonl")

    return made


def skipped(tmp_path):
    return {
        line["key"]: line["reason"]
        for line in map(json.loads, (tmp_path / "skipped.jsonl").read_text().splitlines())
    }


def test_class_folders(made):
    data = made(
        {"dog/a.png": encoded(10), "cat/b.jpg": encoded(200, kind="JPEG"), "dog/x/c.webp": encoded(90)}
    )
    assert (data.shape, data.cond) == (DataShape(3, 8, 8), CondSpec(1, 2))
    assert epoch(data) == {10: 1, 200: 0, 90: 1}
    assert data.parse_labels(["dog", 0]).tolist() == [[1], [0]]


def test_dataset_json(made):
    labels = json.dumps({"labels": [["a.png", 3], ["sub/b.png", 0]]}).encode()
    data = made({"a.png": encoded(10), "sub/b.png": encoded(200), "dataset.json": labels})
    assert data.cond == CondSpec(1, 4)
    assert epoch(data) == {10: 3, 200: 0}


def test_captions_beside_the_images(made):
    data = made(
        {"a.png": encoded(10), "a.txt": " ein Löwe \n".encode(), "b.png": encoded(90), "b.txt": b"a cat"}
    )
    assert data.cond is None
    assert epoch(data) == {10: "ein Löwe", 90: "a cat"}
    assert list(data.texts()) == ["ein Löwe", "a cat"]


def test_images_alone_are_one_class(made):
    data = made({"a.png": encoded(10), "b.png": encoded(90)})
    assert data.cond == CondSpec(1, 1)
    assert epoch(data) == {10: 0, 90: 0}


def test_what_is_broken_is_skipped_and_listed(made, tmp_path):
    good = {f"{k}.png": encoded(k) for k in range(10, 90, 10)}
    bad = {"cut.png": encoded(1)[:40], "empty.png": b"", "lone.png": encoded(2), "latin.png": encoded(3)}
    captions = {name.replace(".png", ".txt"): b"fine" for name in {**good, **bad} if name != "lone.png"}
    data = made({**good, **bad, **captions, "latin.txt": "Löwe".encode("latin-1")})
    assert set(epoch(data, 3)) == set(range(10, 90, 10))
    assert list(data.texts()) == ["fine"] * 10  # those of images that do not decode among them
    reasons = skipped(tmp_path)
    assert set(reasons) == set(bad)
    assert "does not decode" in reasons["cut.png"]
    assert reasons["empty.png"] == "the image is empty"
    assert reasons["lone.png"] == "the caption is missing"
    assert reasons["latin.png"] == "the caption is not UTF-8"


@pytest.mark.parametrize("label", [-1, 7, "two", 1.5, None])
def test_a_label_out_of_range_is_skipped(made, tmp_path, label):
    labels = {"labels": [["a.png", label], ["b.png", 1], ["c.png", 0]]}
    files = {f"{name}.png": encoded(k) for k, name in enumerate("abcd")}
    data = made({**files, "dataset.json": json.dumps(labels).encode()}, num_classes=2)
    assert epoch(data) == {1: 1, 2: 0}
    assert skipped(tmp_path) == {
        "a.png": f"label {label} is out of range; there are 2 classes",
        "d.png": "the image has no label",
    }


def test_past_the_limit_the_run_stops(made):
    data = made({"a.png": encoded(1), "b.png": b"", "c.png": encoded(2)}, max_skipped=0.01)
    with pytest.raises(TooManySkippedError, match=r"1 of 3 samples .* b\.png: the image is empty"):
        epoch(data)


def test_no_image_is_an_error_with_the_count(made):
    with pytest.raises(ValueError, match="holds no image, only 1 other files"):
        made({"readme.md": b"x"})


def test_a_wrong_dataset_json_is_named(made):
    with pytest.raises(ValueError, match=r'dataset\.json is not {"labels": \[\["name.png", 0\], \.\.\.\]}'):
        made({"a.png": encoded(1), "dataset.json": b'{"labels": [3]}'})


def test_a_name_that_leads_out_of_the_zip_is_only_a_name(tmp_path):
    outside = tmp_path / "inside"
    outside.mkdir()
    with zipfile.ZipFile(outside / "images.zip", "w") as file:
        file.writestr("../escaped.png", encoded(7))
        file.writestr("/tmp/escaped.png", encoded(9))
    data = build("data", {**SETTINGS, "path": str(outside / "images.zip"), "labels": "none"}, split="train")
    assert set(epoch(data)) == {7, 9}
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "images.zip"]


def test_a_missing_path_and_a_file_that_is_no_zip_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"data\.path=.*nowhere does not exist"):
        build("data", {**SETTINGS, "path": str(tmp_path / "nowhere")}, split="train")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a\.zip is no whole zip"):
        build("data", {**SETTINGS, "path": str(tmp_path / "a.zip")}, split="train")


def test_a_pipe_is_neither_waited_for_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is neither a folder nor a zip"):
        build("data", {**SETTINGS, "path": str(tmp_path / "pipe.png")}, split="train")
    write(tmp_path, {"a.png": encoded(1)})
    data = build("data", {**SETTINGS, "path": str(tmp_path)}, split="train")
    assert set(epoch(data)) == {1}


@pytest.mark.parametrize("label", [10**6, 10**30])
def test_a_label_that_asks_for_more_classes_than_there_can_be_is_named(made, label):
    with pytest.raises(ValueError, match=rf"dataset\.json has the label {label}; accepted without data\.num"):
        made({"a.png": encoded(1), "dataset.json": json.dumps({"labels": [["a.png", label]]}).encode()})


def test_what_is_absurdly_large_is_skipped_unread(made, monkeypatch):
    monkeypatch.setattr(tpdm.data.files, "LARGEST", 500)
    data = made({"a.png": encoded(1), "b.png": encoded(2), "c.png": encoded(3) + bytes(600)}, labels="none")
    assert set(epoch(data)) == {1, 2}


def test_a_zip_is_inflated_no_further_than_it_declares(tmp_path):
    """64 MB of zeros that are said to be 100 bytes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(2**26))
    path.write_bytes(path.read_bytes().replace((2**26).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    files = open_files(str(path))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError, match="damaged in the zip"):
            files.read("a.png")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_flipped_byte_in_a_zip_is_told(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.bmp", encoded(10, kind="BMP"))
        file.writestr("b.bmp", encoded(20, kind="BMP"))
    content = bytearray(path.read_bytes())
    content[150] ^= 1  # a pixel of a.bmp, which has no checksum of its own
    path.write_bytes(content)
    data = build("data", {**SETTINGS, "path": str(path)}, split="train")
    assert set(epoch(data)) == {20}


def test_an_image_that_vanishes_stops_the_run_with_its_path(tmp_path):
    write(tmp_path, {"a.png": encoded(1), "b.png": encoded(2)})
    data = build("data", {**SETTINGS, "path": str(tmp_path)}, split="train")
    (tmp_path / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        epoch(data)
