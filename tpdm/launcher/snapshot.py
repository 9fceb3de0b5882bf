"""The code that a sweep runs, out of reach of later edits: a git worktree in the sweep's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def snapshot(folder: Path, allow_dirty: bool) -> Path:
    """Where the code stands: folder/<commit>, made unless it is there.

    Raises ValueError where the working tree has what the commit has not; with `allow_dirty` that is committed
    aside, with no branch to tell of it. An installed package, which git does not know, is copied.
    """
    checkout = PACKAGE.parent
    if _git(checkout, "ls-files", "--error-unmatch", str(PACKAGE / "__init__.py"), check=False) is None:
        return _copied(folder / "installed")
    commit = _git(checkout, "rev-parse", "HEAD") or ""
    if changed := _git(checkout, "status", "--porcelain"):
        lines = [line[2:].strip() for line in changed.splitlines()]
        if not allow_dirty:
            raise ValueError(
                f"{checkout} has changes that are in no commit ({_first(lines)}), and jobs run a commit; "
                "commit them, or set launcher.allow_dirty=true to run what stands there now"
            )
        commit = _committed_aside(checkout, commit)
    code = folder / commit[:12]
    if not code.is_dir():
        _git(checkout, "worktree", "prune")
        with _prepared(code) as prepared:
            _git(checkout, "worktree", "add", "--force", "--detach", str(prepared.absolute()), commit)
            _git(checkout, "worktree", "move", str(prepared.absolute()), str(code.absolute()))
    return code


@contextmanager
def _prepared(code: Path) -> Iterator[Path]:
    """Where to prepare what is to be at `code` when it is whole; nothing stays if that fails."""
    prepared = code.with_name(f".{code.name}.{os.getpid()}")
    try:
        yield prepared
    except BaseException:
        shutil.rmtree(prepared, ignore_errors=True)
        with suppress(OSError):
            prepared.parent.rmdir()  # unless it holds others
        raise


def _committed_aside(checkout: Path, parent: str) -> str:
    """A commit of all that stands in the working tree, the same for the same content."""
    date = _git(checkout, "show", "-s", "--format=%cI", parent) or ""
    author = {f"GIT_{who}_{what}": "tpdm" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    with tempfile.TemporaryDirectory() as scratch:
        env = {
            **author,
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
            "GIT_INDEX_FILE": f"{scratch}/index",
        }
        _git(checkout, "read-tree", parent, env=env)
        _git(checkout, "add", "--all", env=env)
        tree = _git(checkout, "write-tree", env=env) or ""
        return _git(checkout, "commit-tree", tree, "-p", parent, "-m", "The working tree", env=env) or ""


def _copied(code: Path) -> Path:
    if not code.is_dir():
        with _prepared(code) as prepared:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PACKAGE, prepared / PACKAGE.name, ignore=ignore)
            prepared.rename(code)
    return code


def _first(lines: list[str]) -> str:
    """The first of them, and how many there are."""
    return lines[0] + (f" and {len(lines) - 1} more" if len(lines) > 1 else "")


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None, check: bool = True) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})
    if done.returncode == 0:
        return done.stdout.rstrip("\n")
    if check:
        wrong = [line for line in done.stderr.splitlines() if line.startswith(("error:", "fatal:"))]
        raise ValueError(f"{' '.join(command)} failed: {_first(wrong or done.stderr.splitlines() or ['?'])}")
    return None
