"""Settings as a person would type them: words of Hydra's grammar, quoted for a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PLAIN = re.compile(r"(?!(?i:null|true|false|nan|inf)$)[./]*[A-Za-z_][\w./@-]*", re.A)  # text as it stands
QUOTED = re.compile(r"(\\*)('|\$\{|$)")  # what ends a quotation or begins an interpolation


def command_line(module: str, words: Iterable[str]) -> str:
    """What a shell is given."""
    return shlex.join(["python", "-m", module, *words])


def settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A word for each, null for None; a mapping takes the place of the one that is there."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"~{prefix}{key}"
            yield f"+{prefix}{key}={text(value)}"
        else:
            yield f"{prefix}{key}={text(value)}"


def text(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text, value)) + "]"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else f"'{QUOTED.sub(_escaped, value)}'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _escaped(found: re.Match[str]) -> str:
    slashes, what = found.groups()
    return 2 * slashes + (f"\\{what}" if what else "")
