"""Names to components: `register` puts one in, `build` makes one from its YAML, `validate` checks a config.

For authors of components (neither torch nor anything else of tpdm is imported here):

    @register("predictor", "vit")     # conf/predictor/vit.yaml has `name: vit` and every choice, nothing else
    class ViTPredictor(nn.Module):
        def __init__(self, width: Positive[int], dropout: Fraction[float], epsilon: float | None,
                     arch: Literal["cnn", "vit"], *, features: FeatureSpec): ...

1. Before `*` stand choices: annotated, in the YAML, without a Python default. Annotated[int, Range(min=2)]
   works too.
2. After `*` stand facts. `build(group, cfg, **facts)` offers facts; a component takes those that it names.
3. Before `/` stand arguments of a later call. `def discounted(reward, nfe, /, gamma: Fraction[float])` has
   one choice, gamma; what is built is a partial, to be called with (reward, nfe).
4. A choice that is itself a component is annotated with a class, protocol or Callable. A DiT's
   `block: Callable[..., Block]` reads `model.block.name` from group "model/block" (or, if there is no such
   group, from "model"), and arrives as a partial with its choices and facts bound: call it. dict[str, ...]
   and list[...] of components work too.
5. Annotations are evaluated: import what they name at run time, not under TYPE_CHECKING.
6. A check between two choices belongs into the constructor: raise a ValueError that names the key.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import pkgutil
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

Number = TypeVar("Number", int, float)
ALIASES = {"predictor_trainer": "trainer", "predictor_optimizer": "optimizer"}  # config node -> group

_components: dict[tuple[str, str], Callable[..., Any]] = {}


class ConfigError(ValueError):
    """A config that cannot be built: one line with the key, what was seen and what is accepted."""


@dataclass(frozen=True)
class Range:
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


def register(group: str, name: str) -> Callable[[Callable[..., Any]], Any]:
    """Class or function decorator: makes it the component `name` of `group`."""

    def put(component):
        known = _components.setdefault((group, name), component)
        if (known.__module__, known.__qualname__) != (component.__module__, component.__qualname__):
            raise ValueError(
                f"{group}/{name} is registered twice: {known.__module__} and {component.__module__}"
            )
        _components[group, name] = component
        return component

    return put


def names(group: str) -> list[str]:
    """Every component of a group, from the package and from plugins."""
    _load(group.split("/")[0])
    _load_plugins()
    return sorted(name for g, name in _components if g == group)


def lookup(group: str, name: str, key: str = "") -> Callable[..., Any]:
    """The registered class or function itself."""
    known = names(group)
    if name not in known:
        raise ConfigError(
            f"{key or group}.name={name!r} is not known{_nearest(name, known)}; accepted: {', '.join(known)}"
        )
    return _components[group, name]


def choices(component: Callable[..., Any]) -> dict[str, Any]:
    """Annotation of every argument that the YAML lists."""
    return {p.name: p.annotation for p in _parameters(component) if p.kind is p.POSITIONAL_OR_KEYWORD}


def build(group: str, cfg: Mapping[str, Any], **facts: Any) -> Any:
    """The component that `cfg` names, made from its choices and from those of the facts that it asks for."""
    made = _read_component(cfg, _Place(group.replace("/", "."), group, facts))
    if any(p.kind is p.POSITIONAL_ONLY for p in _parameters(made.func)):
        return made
    missing = [p.name for p in _parameters(made.func) if p.default is p.empty and p.name not in made.keywords]
    if missing:
        raise TypeError(f"build({group!r}) of {cfg['name']!r} also needs the facts {', '.join(missing)}")
    return made()


def validate(cfg: Mapping[str, Any], schema: type | None = None) -> None:
    """Raises ConfigError for the first key that a component's signature or the TypedDict `schema` refuses."""
    if schema is not None:
        _read(cfg, schema, _Place("", "", {}))
        return
    for key, node in cfg.items():
        group = ALIASES.get(key, key)
        if isinstance(node, Mapping) and "name" in node and names(group):
            _read_component(node, _Place(key, group, {}))


@dataclass(frozen=True)
class _Place:
    """Where in the config a value stands: its dotted key, the group of its `name`, the facts on offer."""

    key: str
    group: str
    facts: Mapping[str, Any] = field(repr=False)

    def at(self, name: str) -> _Place:
        """The place of a parameter, an entry or an element."""
        if not self.key:
            return _Place(name, ALIASES.get(name, name), self.facts)
        group = f"{self.group}/{name}"
        known = any(g == group for g, _ in _components)
        return _Place(f"{self.key}.{name}", group if known else self.group, self.facts)

    def error(self, value: Any, accepted: str, near: str = "") -> ConfigError:
        seen = f"{value!r} ({type(value).__name__})"
        return ConfigError(f"{self.key}={seen} is not accepted{near}; accepted: {accepted}")


def _read_component(cfg: Any, place: _Place) -> partial:
    if not isinstance(cfg, Mapping) or not isinstance(cfg.get("name"), str):
        raise place.error(cfg, f"a mapping with `name`, one of: {', '.join(names(place.group))}")
    component = lookup(place.group, cfg["name"], place.key)
    known = choices(component)
    given = {key: value for key, value in cfg.items() if key != "name"}
    owner = f"{place.group} {cfg['name']!r}"
    _check_keys(given, known, place, owner)
    read = {key: _read(value, known[key], place.at(key)) for key, value in given.items()}
    wanted = {p.name for p in _parameters(component) if p.kind is p.KEYWORD_ONLY}
    return partial(component, **read, **{key: fact for key, fact in place.facts.items() if key in wanted})


def _check_keys(given: Iterable[str], known: Iterable[str], place: _Place, owner: str) -> None:
    given, known = list(given), list(known)
    prefix = f"{place.key}." if place.key else ""
    accepted = ", ".join(known) or "nothing but name"
    for key in given:
        if key not in known:
            near = _nearest(key, known, prefix)
            raise ConfigError(f"{prefix}{key} is no key of {owner}{near}; accepted: {accepted}")
    for key in known:
        if key not in given:
            raise ConfigError(
                f"{prefix}{key} is missing: {owner} needs {accepted}; seen: {', '.join(given) or 'none'}"
            )


def _read(value: Any, annotation: Any, place: _Place) -> Any:
    """The value as its annotation has it; ConfigError if it cannot be."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        return _read_in_range(value, annotation, place)
    if origin in (Union, types.UnionType):
        return _read_union(value, annotation, place)
    if origin is Literal:
        if value in args and type(value) in map(type, args):
            return value
        raise place.error(value, _describe(annotation), _nearest(str(value), map(str, args)))
    if is_typeddict(annotation):
        return _read_schema(value, annotation, place)
    if (container := origin or annotation) in (list, tuple, dict, Sequence, Mapping):
        return _read_container(value, container, args, place)
    if annotation in (int, float, str, bool, type(None)):
        return _read_scalar(value, annotation, place)
    return _read_component(value, place)


def _read_in_range(value: Any, annotation: Any, place: _Place) -> Any:
    inner, *marks = get_args(annotation)
    read = _read(value, inner, place)
    if any(isinstance(mark, Range) and read not in mark for mark in marks):
        raise place.error(value, _describe(annotation))
    return read


def _read_union(value: Any, annotation: Any, place: _Place) -> Any:
    if value is None and type(None) in get_args(annotation):
        return None
    options = [option for option in get_args(annotation) if option is not type(None)]
    for option in options:
        try:
            return _read(value, option, place)
        except ConfigError as error:
            if len(options) == 1 and isinstance(value, Mapping):
                raise error  # it speaks of a deeper key
    raise place.error(value, _describe(annotation))


def _read_schema(value: Any, schema: type, place: _Place) -> dict[str, Any]:
    known = get_type_hints(schema, include_extras=True)
    if not isinstance(value, Mapping):
        raise place.error(value, f"a mapping of {', '.join(known)}")
    _check_keys(value, known, place, place.key or "this command")
    return {key: _read(item, known[key], place.at(key)) for key, item in value.items()}


def _read_container(value: Any, container: Any, args: tuple, place: _Place) -> Any:
    if container in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise place.error(value, "a mapping")
        return {key: _read(item, args[1] if args else Any, place.at(str(key))) for key, item in value.items()}
    if not isinstance(value, list | tuple):
        raise place.error(value, "a list")
    fixed = container is tuple and args and args[-1] is not Ellipsis
    if fixed and len(value) != len(args):
        raise place.error(value, f"a list of {len(args)}")
    element = args if fixed else [args[0] if args else Any] * len(value)
    read = [_read(item, a, place.at(str(k))) for k, (item, a) in enumerate(zip(value, element, strict=True))]
    return tuple(read) if container is tuple else read


def _read_scalar(value: Any, annotation: Any, place: _Place) -> Any:
    accepted = (int, float) if annotation is float else annotation
    if not isinstance(value, accepted) or (isinstance(value, bool) and annotation is not bool):
        raise place.error(value, _describe(annotation))
    return float(value) if annotation is float else value


def _describe(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Annotated:
        return " ".join([_describe(args[0]), *(str(mark) for mark in args[1:] if isinstance(mark, Range))])
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, args))
    if origin is Literal:
        return ", ".join(map(str, args))
    return getattr(annotation, "__name__", str(annotation))


def _nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    close = get_close_matches(word, list(known), 1, cutoff=0.4)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


@cache
def _parameters(component: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(component, eval_str=True).parameters.values())


@cache
def _load(group: str) -> None:
    """Imports tpdm/<group>.py, or every file of tpdm/<group>/, so that they register themselves."""
    if not group.isidentifier() or importlib.util.find_spec(f"tpdm.{group}") is None:
        return
    package = importlib.import_module(f"tpdm.{group}")
    for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
        importlib.import_module(f"{package.__name__}.{module.name}")


@cache
def _load_plugins() -> None:
    for plugin in entry_points(group="tpdm.plugins"):
        plugin.load()
