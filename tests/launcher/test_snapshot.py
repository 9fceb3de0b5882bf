import subprocess

import pytest

from tpdm.launcher import snapshot as module
from tpdm.launcher.snapshot import snapshot


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one committed file of a package."""
    folder = tmp_path / "checkout"
    package = folder / "tpdm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one")
    monkeypatch.setattr(module, "PACKAGE", package)
    return folder


def git(folder, *arguments):
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_later_edits_do_not_reach_it(checkout, tmp_path):
    code = snapshot(tmp_path / "code", allow_dirty=False)
    assert code.name == git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "tpdm" / "__init__.py").write_text("two = 2\n")
    assert (code / "tpdm" / "__init__.py").read_text() == "one = 1\n"


@pytest.mark.parametrize("name", ["__init__.py", "new.py"])
def test_a_dirty_tree_is_refused_or_taken_whole(name, checkout, tmp_path):
    (checkout / "tpdm" / name).write_text("two = 2\n")
    with pytest.raises(ValueError, match=rf"tpdm/{name}\), and jobs run a commit; .*allow_dirty=true"):
        snapshot(tmp_path / "code", allow_dirty=False)
    assert not (tmp_path / "code").exists()
    index = git(checkout, "status", "--porcelain")
    code = snapshot(tmp_path / "code", allow_dirty=True)
    assert (code / "tpdm" / name).read_text() == "two = 2\n"
    assert git(checkout, "status", "--porcelain") == index
    assert snapshot(tmp_path / "code", allow_dirty=True) == code


def test_code_that_no_git_knows_is_copied(tmp_path, monkeypatch):
    package = tmp_path / "site" / "tpdm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one = 1\n")
    monkeypatch.setattr(module, "PACKAGE", package)
    code = snapshot(tmp_path / "code", allow_dirty=False)
    (package / "__init__.py").write_text("two = 2\n")
    assert (code / "tpdm" / "__init__.py").read_text() == "one = 1\n"
