import errno
import json
import resource
import signal

import pytest

from tpdm.runtime.atomic import leftovers, read_json, whole_file, write_json


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_are_those_of_this_file_only(tmp_path):
    mine, other = tmp_path / ".a.json.17.tmp", tmp_path / ".b.json.17.tmp"
    mine.touch(), other.touch()
    assert leftovers(tmp_path / "a.json") == [mine]


def test_errors_name_the_file_and_not_its_temporary_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone/a\.json'$"):
        write_json(tmp_path / "gone" / "a.json", 1)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"/a\.json'$") as error:
            write_json(tmp_path / "a.json", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert error.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


DEEP, LONG, TWICE = b"[" * 100_000, b"1" * 5_000, b'{"a": {"b": 1, "c": 2, "b": 3}}'


@pytest.mark.parametrize("damage", [b"", b'{"a": ', b"\xff\xfe", DEEP, LONG, TWICE])
def test_what_is_no_json_is_named_in_one_line(tmp_path, damage):
    path = tmp_path / "a.json"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"a\.json is not JSON") as error:
        read_json(path)
    assert "\n" not in str(error.value)
