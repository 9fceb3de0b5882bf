"""The door of every command: Hydra composes, the registry validates, an error is one line and a status."""

from __future__ import annotations

import atexit
import errno
import functools
import inspect
import os
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import hydra
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.main import get_args_parser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from tpdm.registry import ALIASES, Component, validate
from tpdm.runtime.process import settle
from tpdm.values import nearest

settle()

Main = Callable[[dict[str, Any]], None]

FAILURE, USER_ERROR, INTERRUPTED = 1, 2, 130
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}
WRONG_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)

VERBATIM = {"prompt"}  # settings that are what a person wrote
CODED = re.compile(r"\$\{verbatim:(x[0-9a-f]*)\}")  # as `quoted` hands them to Hydra
PATTERN = re.compile(r"[^{\[].*[{\[]|\{\d+\.\.\d+\}")  # a path with /{000..127} or a glob's [0-9]
BETWEEN_COMMAS = re.compile(r"(?:\{[^{}]*\}|\[[^\[\]]*\]|[^,{}\[\]])+")  # those outside of brackets

FLAGS = """\
--cfg job prints every key with its value, -m runs every combination of values given as a,b,
-cd FOLDER -cn NAME reads FOLDER/NAME.yaml, --hydra-help tells the rest."""


def config_dir() -> Path:
    """conf/ of the checkout, or the copy of it that a wheel carries."""
    package = Path(str(files("tpdm")))
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def entry(config_name: str, schema: type, first: str | None = None) -> Callable[[Main], Callable[[], None]]:
    """Makes `main(cfg)` a command.

    Its config is conf/<config_name>.yaml, `schema` the TypedDict of what that may hold, and its help the
    docstring of its module. A first word without "=" is the value of the key `first`.
    """

    def decorate(main: Main) -> Callable[[], None]:
        statuses: list[int] = []

        def attempt(action: Callable[[], Any], debug: bool) -> None:
            # recorded, not raised, so that the other jobs of a sweep still run
            statuses.append(_status(action, debug, tell=describe))

        @functools.wraps(main)
        def job(cfg: DictConfig) -> None:
            attempt(lambda: main(_plain(cfg, schema)), debug=bool(cfg.get("debug")))

        # for the launcher, which composes every job of a sweep before the first one runs
        vars(job).update(
            command=config_name, main=main, attempt=attempt, plain=lambda cfg: _plain(cfg, schema)
        )
        command = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(job)

        @functools.wraps(main)
        def run() -> None:
            flags = _flags()
            if flags.help:
                print(_help(main, schema))
                return
            statuses.clear()
            if _sends(flags):  # said aloud, since Hydra blames a sweep without -m for any other mistake in it
                sys.argv.append("--multirun")
            if first and len(sys.argv) > 1 and not sys.argv[1].startswith("-") and "=" not in sys.argv[1]:
                sys.argv[1] = f"{first}='{sys.argv[1]}'"
            sys.argv[1:] = map(quoted, sys.argv[1:])
            warnings.formatwarning = _warning
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print
            OmegaConf.register_new_resolver("scratch", _scratch, replace=True)
            statuses.append(_status(command, debug="debug=true" in sys.argv, tell=_composing))
            if any(statuses):
                sys.exit(max(statuses))

        return run

    return decorate


def quoted(word: str) -> str:
    """A setting whose value is such a path, or a sweep over some, in the quotes that the shell took away.

    A prompt is no grammar: it comes through word for word, whatever its commas and brackets.
    """
    key, equals, value = word.partition("=")
    if key in VERBATIM and equals and value != "null":
        return f"{key}=${{verbatim:x{value.encode(errors='surrogateescape').hex()}}}"
    parts = BETWEEN_COMMAS.findall(value)
    if not PATTERN.match(value) or set(value) & set("'\"$(") or ",".join(parts) != value:
        return word
    return key + equals + ",".join(f"'{part}'" for part in parts)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning to a user is one line, without the place in the code that gave it."""
    where = "" if category is UserWarning else f"{filename}: {category.__name__}: "
    return f"tpdm: warning: {where}{message}\n"


def _verbatim(coded: str) -> str:
    """What `quoted` put into hexadecimal digits, behind an x that keeps them from being a number."""
    return bytes.fromhex(coded[1:]).decode(errors="replace")


OmegaConf.register_new_resolver("verbatim", _verbatim, replace=True)


def _plain(cfg: DictConfig, schema: type) -> dict[str, Any]:
    """The config as dicts and lists, valid."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    validate(plain, schema)
    return plain


def _status(action: Callable[[], Any], debug: bool, tell: Callable[[Exception], tuple[int, str]]) -> int:
    """Exit status of an action; its error becomes one line on stderr, after the traceback if `debug`."""
    try:
        action()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        status, line = tell(error)
        print(f"tpdm: error: {line}", file=sys.stderr)
        return status
    return 0


def describe(error: Exception) -> tuple[int, str]:
    """Exit status and one line: 2 for what the user can put right, 1 for a failure while running."""
    if isinstance(error, OmegaConfBaseException):
        return _composing(error)
    line = " ".join(str(error).split())
    no_room = isinstance(error, OSError) and error.errno in NO_ROOM
    if no_room or isinstance(error, (ValueError, *WRONG_PATH)):
        return USER_ERROR, line or type(error).__name__
    return FAILURE, f"{type(error).__name__}: {line}" if line else type(error).__name__


def _composing(error: Exception) -> tuple[int, str]:
    """The same for an error met while composing: the user's, whatever Hydra or OmegaConf call it."""
    return USER_ERROR, _composition(error)


def _composition(error: Exception) -> str:
    """What was wrong with the command line, with the nearest name that would have been right."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is no setting; write key=value, brackets and quotes in pairs"
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key} is missing; give it as {cause.full_key}=VALUE"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(cause)
    if isinstance(cause, OmegaConfBaseException):
        return _unread(cause) or f"{cause.full_key}: {str(cause).splitlines()[0]}"
    if unfit := _unfit_choice(str(error)):
        return unfit
    given = CODED.sub(lambda found: _verbatim(found[1]), " ".join(sys.argv[1:]))
    return f"{' '.join(str(error).split()) or type(error).__name__}; given: {given}"


def _unfit_choice(complaint: str) -> str | None:
    """What Hydra does not say: a group has no choice null, a part and a preset belong to what is chosen."""
    known = _choices()
    lacks = re.search(r"Could not override '([\w/]+).*' *\. No match in the defaults list", complaint)
    for word in sys.argv[1:]:
        group, _, choice = word.partition("=")
        kind, _, part = group.rpartition("/")
        if group in known and choice == "null" and "NoneType" in complaint:
            return f"{word} is not known; accepted: {', '.join(known[group])}"
        if kind in known and part and f"'{group}'" in complaint:
            whole = ", ".join(known[kind])
            return f"{word} is part of no {kind} that is chosen here; choose one that has it, of: {whole}"
        if lacks and f"In '{group}/{choice}'" in complaint:
            fitting = [name for name in known[group] if f"override /{lacks[1]}" not in _text(group, name)]
            return f"{word} overrides {lacks[1]}, which this command has not; accepted: {', '.join(fitting)}"
    return None


def _unread(error: OmegaConfBaseException) -> str | None:
    """The same for a preset that reads what another group's choice does not have."""
    found = re.search(r"Interpolation key '(\w+)\.(\w+)' not found", str(error))
    if not found or not isinstance(error.parent_node, DictConfig):
        return None
    group, key = found.groups()
    chosen = OmegaConf.select(error.parent_node._get_root(), f"{group}.name")
    having = [f"{group}={name}" for name in _choices().get(group, []) if f"\n{key}:" in _text(group, name)]
    read = f"{error.full_key} reads {group}.{key}, which {group}={chosen} has not"
    return f"{read}; accepted: {', '.join(having)}" if having else None


def _text(group: str, choice: str) -> str:
    files = (folder / group / f"{choice}.yaml" for folder in _folders())
    return next(file.read_text() for file in files if file.is_file())


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    options = sorted(error.options or {file.stem for folder in _folders() for file in folder.glob("*.yaml")})
    given = f"{group}={choice}" if group else f"--config-name {choice}"
    return f"{given} is not known{nearest(choice, options)}; accepted: {', '.join(options)}"


def _unknown_key(error: OmegaConfBaseException) -> str:
    key, parent = str(error.full_key), error.parent_node
    known = [str(name) for name in parent if name != "hydra"] if isinstance(parent, DictConfig) else []
    near = nearest(str(error.key), known, key.removesuffix(str(error.key)))
    return f"{key} is no key{near}; accepted: {', '.join(known) or 'no key, it is part of a value'}"


def _flags() -> Any:
    """Hydra's command line, an unknown flag refused in one line instead of argparse's whole usage."""

    def refuse(message: str) -> NoReturn:
        print(f"tpdm: error: {message}; settings are given as key=value, see --help", file=sys.stderr)
        sys.exit(USER_ERROR)

    parser = get_args_parser()
    parser.error = refuse
    return parser.parse_args()


def _sends(flags: Any) -> bool:
    """Whether the command line chooses a launcher that takes sweeps."""
    chosen = [word for word in flags.overrides if word.startswith("launcher=")]
    elsewhere = bool(chosen) and chosen[-1] != "launcher=local"
    return elsewhere and not (flags.multirun or flags.cfg or flags.info or flags.hydra_help)


def _folders() -> list[Path]:
    """Where this command line finds its configs."""
    given = _flags().config_dir
    return [*([Path(given)] if given else []), config_dir()]


def _help(main: Main, schema: type) -> str:
    """The command's docstring and the choices of its groups; Hydra's own help takes a second."""
    kinds = get_type_hints(schema)
    groups = {ALIASES.get(key, key) for key in kinds if Component in (kinds[key], *get_args(kinds[key]))}
    shown = {group: known for group, known in _choices().items() if group.split("/")[0] in groups}
    lines = [f"  {group}: {', '.join(known)}" for group, known in shown.items()]
    about = inspect.getdoc(inspect.getmodule(main)) or ""
    return "\n".join([about, "", "Groups, chosen by group=choice:", *lines, "", FLAGS])


def _choices() -> dict[str, list[str]]:
    """Every config group and its files."""
    found: dict[str, set[str]] = {}
    for folder in _folders():
        for file in folder.glob("*/**/*.yaml"):
            found.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


@functools.cache
def _scratch() -> str:
    """A folder that is gone at exit, for the file that Hydra insists on writing in a sweep."""
    folder = tempfile.mkdtemp(prefix="tpdm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
