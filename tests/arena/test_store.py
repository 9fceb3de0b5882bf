"""Records that are damaged, mistaken for each other, or just being made."""

import json
import os
import pickle
import re
import shutil
from functools import partial

import pytest
import torch

from tpdm.arena import store as stores
from tpdm.arena.static import OnGrid, Searched
from tpdm.arena.store import Kept, Store, claimed, described
from tpdm.runtime.workers import BusyError
from tpdm.sampler.grid import uniform
from tpdm.search.dynamic import gits


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, {"code": 1})


def kept(store, label="a", number=1):
    """The record of a label, which is made as `number`."""
    made = Kept({"is": number}, {"x": torch.full((4,), float(number))})
    return store.keep(label, {"sizes": (number, 2)}, lambda: made)


def test_a_description_changes_with_the_code_of_what_it_describes(monkeypatch):
    def parts():
        return described(
            {"gits": Searched(partial(gits, candidates=8, power=1.5)), "uniform": OnGrid(uniform)}
        )

    before = parts()
    monkeypatch.setattr(stores, "code_of", lambda module: "edited" if module == "tpdm.search.dynamic" else "")
    after = parts()
    assert "edited" in json.dumps(after["gits"])
    assert "edited" not in json.dumps(after["uniform"])
    assert before != after


def folder(store, label="a"):
    (found,) = store.folder.glob(f"{label}-*")
    return found


def test_what_is_there_is_not_made_again(store):
    first = kept(store)
    again = store.keep("a", {"sizes": (1, 2)}, lambda: pytest.fail("made again"))
    assert again.numbers == first.numbers == {"is": 1}
    assert torch.equal(again.tensors["x"], torch.ones(4))
    assert [path.name[0] for path in store.folder.iterdir()] == ["a"]


def flipped(path):
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-3] ^= 4
    (path / "model.safetensors").write_bytes(content)


DAMAGE = {
    "flipped": flipped,
    "cut": lambda path: os.truncate(path / "model.safetensors", 20),
    "half a card": lambda path: os.truncate(path / "config.json", 20),
    "another card": lambda path: (path / "config.json").write_text("[1]"),
    "no tensors": lambda path: (path / "model.safetensors").unlink(),
    "empty": lambda path: (shutil.rmtree(path), path.mkdir()),
    "a file": lambda path: (shutil.rmtree(path), path.touch()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_told_of_and_made_anew_where_it_is_deleted(store, damage):
    kept(store)
    path = folder(store)
    DAMAGE[damage](path)
    with pytest.raises(ValueError, match=f"; delete {re.escape(str(path))}, and it is made anew$") as told:
        kept(store)
    assert "copy the folder" not in str(told.value)
    assert "a finished run" not in str(told.value)
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert kept(store).numbers == {"is": 1}


def test_a_whole_record_in_anothers_place_is_not_taken_for_it(store):
    kept(store, "a", 1), kept(store, "b", 2)
    shutil.rmtree(folder(store, "a"))
    shutil.copytree(folder(store, "b"), store._path("a", {"sizes": (1, 2)}))
    with pytest.raises(ValueError, match=r"another record than its name says; delete .* made anew$"):
        kept(store, "a", 1)


def test_one_that_is_being_made_is_told_of(store):
    """Also by another process, which hands the error over; who dies leaves a claim that holds nobody up."""
    path = store._path("a", {"sizes": (1, 2)})
    with claimed(path), pytest.raises(BusyError, match=r"^another process is just making .*/a-") as caught:
        kept(store)
    told = pickle.loads(pickle.dumps(caught.value))
    assert told.path == path
    assert str(told) == str(caught.value)
    path.with_name(f".{path.name}.claim").touch()
    assert kept(store).numbers == {"is": 1}
