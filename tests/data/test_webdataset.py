"""Shards as img2dataset writes them; every damage made for real, and a thousand that nobody thought of."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.data.pictures import encoded, epoch, packed
from tpdm.data.damage import TooManySkippedError
from tpdm.data.tar import walk
from tpdm.registry import build
from tpdm.types import CondSpec

SETTINGS = {
    "name": "webdataset", "pipe": False, "labels": "auto", "json_key": "caption", "num_classes": None,
    "size": 8, "channels": 3, "flip": False, "test_fraction": 0.0, "workers": 0, "reshard": False,
    "max_skipped": 0.9,
}  # fmt: skip


def captioned(shades, **more):
    """An image and its caption for each shade, as members."""
    for shade in shades:
        yield f"{shade:05d}.png", encoded(shade)
        yield f"{shade:05d}.txt", f"grey {shade}".encode()
        for suffix, content in more.items():
            yield f"{shade:05d}.{suffix}", content(shade)


def made(path, split="train", skipped=None, **choices):
    return build("data", {**SETTINGS, "path": str(path), **choices}, split=split, skipped=skipped)


def reasons(path):
    return {line["key"]: line["reason"] for line in map(json.loads, path.read_text().splitlines())}


def grey(*shades):
    return {shade: f"grey {shade}" for shade in shades}


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [10, 90, 140, 240])
def test_members_stand_where_tarfile_finds_them(tmp_path, layout, length):
    folder = "f" * 60 + "/" if length > 100 else ""
    names = [f"{folder}{'n' * (length - len(folder) - 6)}{k}.png" for k in range(3)]
    if layout == tarfile.USTAR_FORMAT and length > 155:
        pytest.skip("too long a name for the format")
    path = tmp_path / "a.tar"
    path.write_bytes(packed([(name, bytes(700 * k)) for k, name in enumerate(names)], layout))
    with tarfile.open(path) as tar:
        theirs = [(m.name, m.offset_data, m.size, True) for m in tar]
    assert list(walk(path)) == theirs


def test_captions_of_several_shards_by_range_and_by_glob(tmp_path):
    for k in range(3):
        (tmp_path / f"{k:03d}.tar").write_bytes(packed(captioned(range(10 * k, 10 * k + 5))))
    everything = grey(*(10 * k + j for k in range(3) for j in range(5)))
    for pattern in ("{000..002}.tar", "00*.tar", "00{0,1,2}.tar"):
        data = made(tmp_path / pattern)
        assert data.cond is None
        assert epoch(data, 4) == everything
        assert list(data.texts()) == list(everything.values())
    assert epoch(made(tmp_path / "001.tar")) == grey(10, 11, 12, 13, 14)


def test_captions_from_json_and_classes(tmp_path):
    path = tmp_path / "a.tar"
    shades = range(10, 60, 10)
    meta = {
        "json": lambda k: json.dumps({"caption": f"json {k}"}).encode(),
        "cls": lambda k: b"%d\n" % (k // 10),
    }
    path.write_bytes(packed(captioned(shades, **meta)))
    assert epoch(made(path)) == grey(*shades)
    assert epoch(made(path, labels="json")) == {k: f"json {k}" for k in shades}
    classes = made(path, labels="cls", num_classes=6)
    assert classes.cond == CondSpec(1, 6)
    assert epoch(classes) == {k: k // 10 for k in shades}
    assert epoch(made(path, labels="none")) == dict.fromkeys(shades, 0)
    with pytest.raises(ValueError, match=r"data\.num_classes is missing"):
        made(path, labels="cls")


def test_a_class_out_of_range_or_no_number_is_skipped(tmp_path):
    path, listed = tmp_path / "a.tar", tmp_path / "skipped.jsonl"
    classes = {1: b"0", 2: b"3", 3: b"-1", 4: b"two"}
    path.write_bytes(packed(captioned(classes, cls=classes.get)))
    assert epoch(made(path, skipped=listed, labels="cls", num_classes=3)) == {1: 0}
    assert reasons(listed) == {
        "00002": "label 3 is out of range; there are 3 classes",
        "00003": "label -1 is out of range; there are 3 classes",
        "00004": "the class b'two' is no number",
    }


def test_each_broken_sample_is_skipped_with_its_reason(tmp_path):
    path, listed = tmp_path / "a.tar", tmp_path / "skipped.jsonl"
    members = [
        *captioned([1]),
        ("cut.png", encoded(7)[:50]), ("cut.txt", b"x"),
        ("empty.png", b""), ("empty.txt", b"x"),
        ("lone.png", encoded(8)),
        ("latin.png", encoded(9)), ("latin.txt", b"\xff\xfe"),
        ("blind.txt", b"x"),
        ("twice.png", encoded(10)), ("twice.png", encoded(11)), ("twice.txt", b"x"),
        *captioned([2]),
        ("00001.png", encoded(12)), ("00001.txt", b"x"),
    ]  # fmt: skip
    path.write_bytes(packed(members))
    assert epoch(made(path, skipped=listed)) == grey(1, 2)
    found = reasons(listed)
    assert found.pop("cut").startswith("the image does not decode")
    assert found == {
        "empty": "the image is empty",
        "lone": "the caption is missing",
        "latin": "the caption is not UTF-8",
        "blind": "there is no image",
        "twice": "two samples under this key",
        "00001": "a second sample under this key",
    }


def test_names_that_lead_out_and_links_are_only_names(tmp_path):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    link = tarfile.TarInfo("b.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(link)
        for name, content in (("../../up.png", encoded(5)), ("/tmp/up.png", encoded(6))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(buffer.getvalue())
    assert set(epoch(made(path, labels="none"))) == {5, 6}
    assert [file.name for file in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_a_cut_shard_gives_what_is_whole_and_a_damaged_header_only_costs_its_neighbours(tmp_path):
    path, listed = tmp_path / "a.tar", tmp_path / "skipped.jsonl"
    whole = packed(captioned(range(6)))
    path.write_bytes(whole[: 3 * 2048 + 700])  # inside the fourth sample; a sample is 2,048 bytes
    assert epoch(made(path)) == grey(0, 1, 2)
    broken = bytearray(whole)
    broken[2 * 2048] ^= 1  # the header of the third image
    path.write_bytes(broken)
    assert epoch(made(path, skipped=listed)) == grey(0, 3, 4, 5)
    assert reasons(listed) == {
        "00001": "the archive is damaged behind this sample",
        "byte 4096": "a header with a wrong checksum at byte 4096",
        "00002": "there is no image",
    }
    for shift in (whole[:5000] + whole[5100:], whole[:5000] + b"x" * 100 + whole[5000:]):
        path.write_bytes(shift)
        assert epoch(made(path)).items() >= grey(0, 1, 3, 4, 5).items()


def test_a_shard_that_vanishes_or_changes_stops_the_run_with_its_path(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(packed(captioned(range(3))))
    data = made(path)
    epoch(data)
    path.write_bytes(packed(captioned(range(30))))
    with pytest.raises(ValueError, match=r"a\.tar was changed while it was being read"):
        epoch(data)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.tar"):
        epoch(data)


def test_what_matches_nothing_is_an_error_with_the_counts(tmp_path):
    (tmp_path / "0.tar").write_bytes(packed(captioned([1])))
    for pattern, message in {
        "{0..3}.tar": r"names 4 files or patterns, of which .*/1\.tar matches none",
        "x*.tar": "names 1 files or patterns",
        "{a,b}*.tar": "names 2 files or patterns",
        "{0..3.tar": "has a brace without its other half",
    }.items():
        with pytest.raises(ValueError, match=message):
            made(tmp_path / pattern)
    (tmp_path / "void.tar").write_bytes(packed([]))
    with pytest.raises(ValueError, match="has 1 shards without a whole sample"):
        made(tmp_path / "void.tar")
    (tmp_path / "zero.tar").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"without a whole sample; the first reason: .*cut short: it has no end"
    ):
        made(tmp_path / "zero.tar")
    with pytest.raises(ValueError, match="is no local path"):
        made("https://a/0.tar")


def test_a_command_runs_once_and_only_when_it_is_allowed(tmp_path):
    for k in range(2):
        (tmp_path / f"{k}.tar").write_bytes(packed(captioned([10 * k])))
    ran = tmp_path / "ran"
    path = f"pipe:echo ran >> {ran}; cat {tmp_path}/{{0..1}}.tar"
    with pytest.raises(ValueError, match=r"runs a command; set data\.pipe=true to allow that"):
        made(path)
    assert not ran.exists()
    for _ in range(2):
        assert epoch(made(path, pipe=True)) == grey(0, 10)
    assert ran.read_text() == "ran\n" * 2, "once for each shard"
    with pytest.raises(ValueError, match="ended with exit status 3"):
        made("pipe:exit 3", pipe=True)


def test_more_damage_than_allowed_is_found_before_training(tmp_path):
    (tmp_path / "a.tar").write_bytes(packed([*captioned(range(9)), ("x.png", b"")]))
    with pytest.raises(TooManySkippedError, match=r"1 of 10 samples .* data.max_skipped=0.01"):
        made(tmp_path / "a.tar", max_skipped=0.01)


WHOLE = packed(captioned(range(10, 60, 10)))
PLACES = st.integers(0, len(WHOLE.rstrip(b"\0")) + 1024)
DAMAGES = st.one_of(
    st.tuples(st.just("cut"), PLACES, PLACES),
    st.tuples(st.just("end"), PLACES, PLACES),
    st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
    st.tuples(st.just("double"), PLACES, PLACES),
    st.tuples(st.just("zero"), PLACES, PLACES),
)


def damaged(content, damage):
    kind, a, b = damage
    if kind == "flip":
        return content[:a] + bytes([content[a] ^ 1 << b]) + content[a + 1 :] if a < len(content) else content
    a, b = sorted((a, b))
    return {
        "cut": content[:a] + content[b:],
        "end": content[:a],
        "double": content[:b] + content[a:b] + content[b:],
        "zero": content[:a] + bytes(b - a) + content[b:],
    }[kind]


@example(damages=[("cut", 0, 261), ("cut", 3075, 9473)])  # a header whose end is zeros, and then only zeros
@given(damages=st.lists(DAMAGES, min_size=1, max_size=3))
@settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_damaged_shard_hangs_crashes_or_lets_wrong_bytes_through(tmp_path, damages):
    content = WHOLE
    for damage in damages:
        content = damaged(content, damage)
    path = Path(tmp_path / "a.tar")
    path.write_bytes(content)
    try:
        met = epoch(made(path, labels="txt", max_skipped=1.0))
    except ValueError:
        return
    flips = sum(kind == "flip" for kind, _, _ in damages)
    for shade, caption in met.items():
        truth = grey(*range(10, 60, 10))[shade]
        wrong = sum(a != b for a, b in zip(caption, truth, strict=True)) if len(caption) == len(truth) else 99
        assert wrong <= flips, "a caption has no checksum, so that a flipped bit in it is all that may pass"


def test_shards_that_the_webdataset_library_wrote_are_read(tmp_path):
    import webdataset  # slow to import

    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        for shade in (10, 90, 200):
            sink.write({"__key__": f"{shade:05d}", "png": encoded(shade), "txt": f"grey {shade}"})
    assert epoch(made(tmp_path / "a.tar")) == grey(10, 90, 200)
