import json
import subprocess

from tpdm.runtime.provenance import commit, provenance


def test_it_is_plain_json_and_names_what_is_here():
    found = provenance(packages=("torch", "no-such-package"))
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["torch"]
    assert found["versions"]["no-such-package"] is None
    assert found["hardware"]["cores"] >= 1


def test_a_commit_belongs_to_tracked_files_only(tmp_path):
    def git(*arguments):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    ours, theirs = tmp_path / "ours.py", tmp_path / "theirs.py"
    ours.touch(), theirs.touch()
    assert commit(ours) is None
    git("init")
    git("add", "ours.py")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert commit(ours) == head
    assert commit(theirs) is None
    ours.write_text("changed")
    assert commit(ours) == f"{head}+dirty"


def test_it_does_not_fail_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() is None
    assert provenance()["commit"] is None
