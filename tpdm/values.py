"""A value of a config as an annotation has it: of that type, in its range, a list made a tuple."""

from __future__ import annotations

import math
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

Number = TypeVar("Number", int, float)
NoneType = type(None)


class ConfigError(ValueError):
    """A config that cannot be built: one line with the key, what was seen and what is accepted."""


class Limit(ABC):
    """Which values of its type an annotation accepts, Annotated[type, limit]; as a text, in words."""

    @abstractmethod
    def __contains__(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Range(Limit):
    """Bounds of a number, inclusive (`min`, `max`) or exclusive (`above`, `below`)."""

    min: float = -math.inf
    max: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.min <= value <= self.max and self.above < value < self.below

    def __str__(self) -> str:
        bounds = ((">=", self.min), (">", self.above), ("<=", self.max), ("<", self.below))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))


Positive = Annotated[Number, Range(above=0)]
NonNegative = Annotated[Number, Range(min=0)]
Fraction = Annotated[Number, Range(min=0, max=1)]


class Component:
    """Annotation, in the schema of a whole config: whatever the group of that key can build."""


@dataclass(frozen=True)
class Place(ABC):
    """Where in a config a value stands, and what becomes of a component there."""

    key: str  # dotted, "" for the whole config

    @abstractmethod
    def at(self, name: str) -> Place:
        """The place of a parameter, an entry or an element of this one."""

    @abstractmethod
    def component(self, value: Any, wanted: Any) -> Any:
        """What a mapping with a `name` stands for, where `wanted` is the annotation."""

    def error(self, value: Any, accepted: str, near: str = "") -> ConfigError:
        """What was seen here and what is accepted instead."""
        seen = f"{value!r} ({type(value).__name__})"
        return ConfigError(f"{self.key}={seen} is not accepted{near}; accepted: {accepted}")

    def check_keys(self, given: Iterable[str], known: Iterable[str], owner: str) -> None:
        """Refuses the first key that `owner` does not know, and the first that it lacks."""
        given, known = list(given), list(known)
        prefix = f"{self.key}." if self.key else ""
        accepted = ", ".join(known) or "no key but name"
        for key in given:
            if key not in known:
                near = nearest(key, known, prefix)
                raise ConfigError(f"{prefix}{key} is no key of {owner}{near}; accepted: {accepted}")
        for key in known:
            if key not in given:
                raise ConfigError(f"{prefix}{key} is missing; {owner} needs {accepted}")


def read(value: Any, annotation: Any, place: Place) -> Any:
    """The value as its annotation has it; ConfigError if it cannot be."""
    origin = get_origin(annotation)
    if annotation is Any:
        return value
    if annotation is Path:
        return Path(_scalar(value, str, place))
    if origin is Annotated or annotation in (int, float, str, bool, NoneType):
        return _scalar(value, annotation, place)
    if origin is Literal:
        return _literal(value, annotation, place)
    if origin in (Union, types.UnionType):
        return _union(value, annotation, place)
    if is_typeddict(annotation):
        return _schema(value, annotation, place)
    if (origin or annotation) in (dict, Mapping):
        return _mapping(value, annotation, place)
    if (origin or annotation) in (list, tuple, Sequence):
        return _sequence(value, annotation, place)
    return place.component(value, annotation)


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """A clause that asks whether the most similar of the known names was meant, if one is similar."""
    close = get_close_matches(word, list(known), 1, cutoff=0.4)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _scalar(value: Any, annotation: Any, place: Place) -> Any:
    kind, *marks = get_args(annotation) or [annotation]
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise place.error(value, _describe(annotation))
    if any(isinstance(mark, Limit) and value not in mark for mark in marks):
        raise place.error(value, _describe(annotation))
    return float(value) if kind is float else value


def _literal(value: Any, annotation: Any, place: Place) -> Any:
    options = get_args(annotation)
    if any(value == option and type(value) is type(option) for option in options):
        return value
    raise place.error(value, _describe(annotation), nearest(str(value), map(str, options)))


def _union(value: Any, annotation: Any, place: Place) -> Any:
    options = get_args(annotation)
    if value is None and NoneType in options:
        return None
    options = tuple(option for option in options if option is not NoneType)
    if len(options) == 1 and isinstance(value, Mapping | list):
        return read(value, options[0], place)  # its error names a deeper key
    for option in options:
        try:
            return read(value, option, place)
        except ConfigError:
            continue
    raise place.error(value, _describe(annotation))


def _schema(value: Any, schema: type, place: Place) -> dict[str, Any]:
    known = get_type_hints(schema, include_extras=True)
    if not isinstance(value, Mapping):
        raise place.error(value, f"a mapping of {', '.join(known)}")
    place.check_keys(value, known, place.key or "this command")
    return {key: read(item, known[key], place.at(key)) for key, item in value.items()}


def _mapping(value: Any, annotation: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise place.error(value, "a mapping")
    kinds = get_args(annotation) or (str, Any)
    return {key: read(item, kinds[1], place.at(str(key))) for key, item in value.items()}


def _sequence(value: Any, annotation: Any, place: Place) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise place.error(value, _describe(annotation))
    container, kinds = get_origin(annotation) or annotation, get_args(annotation) or (Any,)
    fixed = container is tuple and kinds[-1] is not Ellipsis and len(get_args(annotation)) > 0
    if fixed and len(value) != len(kinds):
        raise place.error(value, _describe(annotation))
    each = kinds if fixed else kinds[:1] * len(value)
    items = [read(item, each[k], place.at(str(k))) for k, item in enumerate(value)]
    return tuple(items) if container is tuple else items


_WORDS: dict[Any, Callable[[tuple], str]] = {
    Annotated: lambda args: " ".join(
        [_describe(args[0]), *(str(a) for a in args[1:] if isinstance(a, Limit))]
    ),
    Literal: lambda args: ", ".join(map(str, args)),
    Union: lambda args: " or ".join(map(_describe, args)),
    types.UnionType: lambda args: " or ".join(map(_describe, args)),
    list: lambda args: f"a list of ({_describe(args[0])})",
    Callable: lambda args: "a component, as GROUP/KEY=NAME chooses one,",
    tuple: lambda args: f"[{', '.join('...' if a is ... else _describe(a) for a in args)}]",
}


def _describe(annotation: Any) -> str:
    """What an annotation accepts, in words."""
    if annotation is NoneType:
        return "null"
    words = _WORDS.get(get_origin(annotation))
    if words is not None:
        return words(get_args(annotation))
    return str(annotation) if get_args(annotation) else getattr(annotation, "__name__", str(annotation))
