"""Names to components: `register` puts one in, `build` makes one from its YAML, `validate` checks a config.

For authors of components (neither torch nor a component is imported here):

    @register("predictor", "vit")     # conf/predictor/vit.yaml has `name: vit` and every choice, nothing else
    class ViTPredictor(nn.Module):
        def __init__(self, width: Positive[int], dropout: Fraction[float], epsilon: float | None,
                     arch: Literal["cnn", "vit"], *, features: FeatureSpec): ...

1. Before `*` stand choices: annotated, in the YAML, without a Python default. Annotated[int, Range(min=2)]
   works too.
2. After `*` stand facts. `build(group, cfg, **facts)` offers facts; a component takes those that it names.
   One is always there: `key`, where in the config the component stands, for errors that name a choice.
3. Before `/` stand arguments of a later call. `def discounted(reward, nfe, /, gamma: Fraction[float])` has
   one choice, gamma; what is built is a partial, to be called with (reward, nfe).
4. A choice that is itself a component is annotated with a class, protocol or Callable. A DiT's
   `block: Callable[..., Block]` reads `model.block.name` from group "model/block" (or, if there is no such
   group, from "model"), and arrives as a partial with its choices and facts bound: call it. dict[str, ...]
   and list[...] of components work too; a dict that is left out is empty. Callable[[], Made] takes those
   that make a Made, and one whose arguments are named none that needs a fact which is not offered.
5. Annotations are evaluated: import what they name at run time, not under TYPE_CHECKING.
6. A check between two choices belongs into the constructor: raise a ValueError that names the key.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any, get_args, get_origin

from tpdm.values import (
    Component,
    ConfigError,
    Fraction,
    Limit,
    NonNegative,
    Place,
    Positive,
    Range,
    nearest,
    read,
)

__all__ = [
    "ALIASES",
    "Component",
    "ConfigError",
    "Fraction",
    "NonNegative",
    "Positive",
    "Range",
    "Registered",
    "build",
    "choices",
    "facts",
    "lookup",
    "names",
    "register",
    "validate",
]

FILES = {"sampler/grid": ("learned", "path")}  # group -> what a file's name stands for: component, choice
BESIDE = {"codec": {"text"}}  # components in a node that are built by themselves, `build("codec/text", ...)`
ALIASES = {  # node of a config -> group
    "predictor_trainer": "trainer",
    "codec_trainer": "trainer",
    "predictor_optimizer": "optimizer",
    "codec_optimizer": "optimizer",
    "baseline": "predictor",
    "held_out": "reward",
    "clip": "reward",
    "suite.grids": "sampler/grid",
    "suite.samplers": "sampler",
    "suite.searches": "search",
    "suite.contestants": "arena",
}

_components: dict[tuple[str, str], Callable[..., Any]] = {}


def register(group: str, name: str) -> Callable[[Callable[..., Any]], Any]:
    """Class or function decorator: makes it the component `name` of `group`."""

    def put(component):
        known = _components.setdefault((group, name), component)
        if (known.__module__, known.__qualname__) != (component.__module__, component.__qualname__):
            raise ValueError(f"{group}/{name} is both in {known.__module__} and in {component.__module__}")
        return component

    return put


def names(group: str) -> list[str]:
    """Every component of a group, from the package and from plugins."""
    _load(group.split("/")[0])
    _load_plugins()
    return sorted(name for g, name in _components if g == group)


def lookup(group: str, name: str) -> Callable[..., Any]:
    """The registered class or function itself."""
    known = names(group)
    if name not in known:
        raise ConfigError(f"{group}={name} is not known{nearest(name, known)}; accepted: {', '.join(known)}")
    return _components[group, name]


@dataclass(frozen=True)
class Registered(Limit):
    """Annotated[str, Registered("sampler/step")] is a component's name alone, where it has no choices."""

    group: str

    def __contains__(self, value: Any) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f"of {self.group}: {', '.join(self.names)}"

    @property
    def names(self) -> list[str]:
        return [name for name in names(self.group) if not choices(lookup(self.group, name))]


def choices(component: Callable[..., Any]) -> dict[str, Any]:
    """Annotation of every argument that the YAML lists."""
    return {p.name: p.annotation for p in _parameters(component) if p.kind is p.POSITIONAL_OR_KEYWORD}


def facts(component: Callable[..., Any]) -> set[str]:
    """Names of what the code passes; they tell what a component is able to do."""
    return {p.name for p in _parameters(component) if p.kind is p.KEYWORD_ONLY}


def build(group: str, cfg: Mapping[str, Any], *, at: str | None = None, **facts: Any) -> Any:
    """The component that `cfg` names, made from its choices and from those of the facts that it asks for.

    `at` is the key of `cfg`, where that is not the group's name.
    """
    made = _Node(at or group.replace("/", "."), group, facts).component(cfg)
    parameters = _parameters(made.func)
    if any(p.kind is p.POSITIONAL_ONLY for p in parameters):
        return made
    if missing := [name for name in _needed(made.func) if name not in made.keywords]:
        raise TypeError(f"build({group!r}) of {cfg['name']!r} also needs the facts {', '.join(missing)}")
    return made()


def validate(cfg: Mapping[str, Any], schema: type) -> None:
    """Raises ConfigError for the first key that the TypedDict `schema` or a component's signature refuses."""
    read(cfg, schema, _Node("", "", None))


@dataclass(frozen=True)
class _Node(Place):
    group: str  # what a `name` here, or further down, is looked up in
    facts: Mapping[str, Any] | None = field(repr=False)  # None: not known yet

    def at(self, name: str) -> _Node:
        if not self.key:
            return _Node(name, ALIASES.get(name, name), self.facts)
        key, inner = f"{self.key}.{name}", f"{self.group}/{name}"
        known = any(group == inner for group, _ in _components)
        return _Node(key, ALIASES.get(key) or (inner if known else self.group), self.facts)

    def component(self, value: Any, wanted: Any = Any) -> partial:
        """The class or function that the mapping names, its choices and the facts it asks for bound."""
        known = [name for name in names(self.group) if not self.misfit(_components[self.group, name], wanted)]
        if self.group in FILES and isinstance(value, str) and value.endswith(".json"):
            name, key = FILES[self.group]
            value = {"name": name, key: value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise self.error(value, f"a mapping whose `name` is one of {', '.join(known)}")
        if value["name"] not in known:
            target = _components.get((self.group, value["name"]))
            near = self.misfit(target, wanted) if target else nearest(value["name"], known)
            raise self.at("name").error(value["name"], ", ".join(known), near)
        target = _components[self.group, value["name"]]
        beside = BESIDE.get(self.group, set()) & value.keys()
        for key in beside:
            self.at(key).component(value[key])
        given = {key: item for key, item in value.items() if key not in {"name", *beside}}
        kinds = choices(target)
        given |= {key: {} for key, kind in kinds.items() if _holds_components(kind) and key not in given}
        self.check_keys(given, kinds, f"{self.group}={value['name']}")
        bound = {key: read(item, kinds[key], self.at(key)) for key, item in given.items()}
        asked, offered = facts(target), {**(self.facts or {}), "key": self.key}
        return partial(target, **bound, **{fact: offered[fact] for fact in offered if fact in asked})

    def misfit(self, target: Callable[..., Any], wanted: Any) -> str:
        """Why a component is not what an annotation Callable[[...], Made] asks for; "" where it is."""
        arguments, made = (get_args(wanted) or (..., Any))[:2]
        if get_origin(wanted) is not Callable or arguments is ...:
            return ""
        makes = target if inspect.isclass(target) else _signature(target).return_annotation
        if not arguments and inspect.isclass(makes) and not issubclass(makes, made):
            return f"; it makes no {made.__name__}"
        told = None if self.facts is None else {"key", *self.facts}
        lacking = [fact for fact in _needed(target) if told is not None and fact not in told]
        return f"; it needs {', '.join(lacking)}, which it is not told here" if lacking else ""


def _holds_components(kind: Any) -> bool:
    """Whether an annotation is of components by their names."""
    return get_origin(kind) is dict and get_origin(get_args(kind)[1]) is Callable


def _needed(component: Callable[..., Any]) -> list[str]:
    """Facts without which it cannot be made."""
    return [p.name for p in _parameters(component) if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


@cache
def _signature(component: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(component, eval_str=True)


def _parameters(component: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    return tuple(_signature(component).parameters.values())


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
