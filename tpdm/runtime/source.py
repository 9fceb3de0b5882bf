"""Which code some modules are, with all that they import of their own package."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path


def source_sha256(modules: Iterable[str]) -> str:
    """Of the files of these modules and of what they import, directly or not, from their own packages."""
    files = _closure(modules)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {hashlib.sha256(files[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _closure(modules: Iterable[str]) -> dict[str, Path]:
    left = list(modules)
    packages = {name.split(".")[0] for name in left}
    files: dict[str, Path] = {}
    while left:
        name = left.pop()
        spec = find_spec(name)
        if name in files or spec is None or spec.origin is None:
            continue
        files[name] = Path(spec.origin)
        left += [other for other in _imported(files[name]) if other.split(".")[0] in packages]
    return files


def _imported(file: Path) -> Iterator[str]:
    """Modules that a file names; `from a import b` names a.b too where that is one."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names if _is_module(node.module, a.name))


def _is_module(package: str, name: str) -> bool:
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return any((Path(folder) / f"{name}.py").exists() for folder in folders or ())
