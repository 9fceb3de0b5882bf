"""Signatures decide what a config may say."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import pytest

from tpdm import registry
from tpdm.registry import (
    Component,
    ConfigError,
    Fraction,
    NonNegative,
    Positive,
    Range,
    Registered,
    build,
    choices,
    facts,
    names,
    register,
    validate,
)


@register("toy", "net")
class Net:
    def __init__(
        self,
        width: Positive[int],
        dropout: Fraction[float],
        kind: Literal["cnn", "vit"],
        betas: tuple[float, float],
        bias: bool,
        note: str | None,
        step: Callable[..., float],
        *,
        shape: tuple[int, int],
        extra: str = "none",
    ):
        self.width, self.dropout, self.kind, self.betas, self.step = width, dropout, kind, betas, step
        self.shape, self.extra = shape, extra


@register("toy/step", "scaled")
def scaled(x: float, /, gamma: Annotated[float, Range(min=0, below=1)], *, shape: tuple[int, int]) -> float:
    return gamma * x * shape[0]


@register("toy", "sum")
class Sum:
    def __init__(self, terms: dict[str, Callable[..., Any]], weights: list[NonNegative[float]]):
        self.terms = {name: term() for name, term in terms.items()}
        self.weights = weights


@register("toy", "stepping")
class Stepping:
    def __init__(self, step: Annotated[str, Registered("toy/step")] | None):
        self.step = step


@register("toy", "picky")
class Picky:
    def __init__(self, part: Callable[[], Stepping], step: Callable[[float], float]):
        self.part, self.step = part, step


@register("toy", "constant")
class Constant:
    def __init__(self, value: float, *, key: str):
        self.value, self.key = value, key


class Schema(TypedDict):
    seed: NonNegative[int]
    toy: Component
    other: Component | None


NET = {
    "name": "net",
    "width": 8,
    "dropout": 0,
    "kind": "vit",
    "betas": [0.9, 1],
    "bias": True,
    "note": None,
    "step": {"name": "scaled", "gamma": 0.5},
}


def test_a_component_gets_its_choices_and_the_facts_it_names():
    net = build("toy", NET, shape=(3, 4), unwanted=object())
    assert (net.width, net.kind, net.shape, net.extra) == (8, "vit", (3, 4), "none")
    assert net.betas == (0.9, 1.0)
    assert isinstance(net.dropout, float)


def test_a_nested_component_is_a_partial_with_choices_and_facts_bound():
    assert build("toy", NET, shape=(3, 4)).step(2.0) == 0.5 * 2.0 * 3


def test_a_function_with_arguments_before_the_slash_is_built_as_a_partial():
    assert build("toy/step", {"name": "scaled", "gamma": 0.25}, shape=(2, 2))(4.0) == 2.0


def test_components_nest_in_mappings_and_look_in_the_group_around_them():
    cfg = {"name": "sum", "terms": {"a": {"name": "constant", "value": 2}}, "weights": [1, 2]}
    built = build("toy", cfg)
    assert built.terms["a"].value == 2.0
    assert built.weights == [1.0, 2.0]


def test_a_component_may_ask_where_it_stands():
    cfg = {"name": "sum", "terms": {"a": {"name": "constant", "value": 2}}, "weights": []}
    assert build("toy", cfg, at="other").terms["a"].key == "other.terms.a"
    assert build("toy", {"name": "constant", "value": 2}).key == "toy"


def test_a_fact_that_code_forgot_is_named():
    with pytest.raises(TypeError, match=r"build\('toy'\) of 'net' also needs the facts shape"):
        build("toy", NET)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"widht": 3}, "toy.widht is no key of toy=net; did you mean toy.width?; accepted: width, "),
        ({"width": ...}, "toy.width is missing; toy=net needs width, dropout, kind, betas, bias, note, step"),
        ({"width": 0}, "toy.width=0 (int) is not accepted; accepted: int > 0"),
        ({"width": "8"}, "toy.width='8' (str) is not accepted; accepted: int > 0"),
        ({"width": 8.0}, "toy.width=8.0 (float) is not accepted; accepted: int > 0"),
        ({"width": True}, "toy.width=True (bool) is not accepted; accepted: int > 0"),
        ({"dropout": 1.5}, "toy.dropout=1.5 (float) is not accepted; accepted: float >= 0 and <= 1"),
        ({"dropout": float("nan")}, "toy.dropout=nan (float) is not accepted; accepted: float >= 0 and <= 1"),
        ({"kind": "vitt"}, "toy.kind='vitt' (str) is not accepted; did you mean vit?; accepted: cnn, vit"),
        ({"betas": [1]}, "toy.betas=[1] (list) is not accepted; accepted: [float, float]"),
        ({"betas": [1, "x"]}, "toy.betas.1='x' (str) is not accepted; accepted: float"),
        ({"bias": 1}, "toy.bias=1 (int) is not accepted; accepted: bool"),
        ({"note": 3}, "toy.note=3 (int) is not accepted; accepted: str or null"),
        ({"name": "nett"}, "toy.name='nett' (str) is not accepted; did you mean net?; accepted: constant, "),
        ({"step": "scaled"}, "toy.step='scaled' (str) is not accepted; accepted: a mapping whose `name` is "),
        ({"step": {"name": "scale"}}, "toy.step.name='scale' (str) is not accepted; did you mean scaled?"),
        ({"step": {"name": "scaled"}}, "toy.step.gamma is missing; toy/step=scaled needs gamma"),
        ({"step": {"name": "scaled", "gamma": 1}}, "toy.step.gamma=1 (int) is not accepted; accepted: float"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_key_what_was_seen_and_what_is_accepted(change, line):
    cfg = {key: value for key, value in {**NET, **change}.items() if value is not ...}
    with pytest.raises(ConfigError) as caught:
        build("toy", cfg, shape=(1, 1))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_whole_config_is_read_by_its_schema():
    good = {"seed": 0, "toy": NET, "other": None}
    validate(good, Schema)
    for bad, key in [
        ({**good, "seed": -1}, "seed=-1"),
        ({**good, "sede": 1}, "sede is no key of this command; did you mean seed?"),
        ({**good, "toy": {**NET, "width": 0}}, "toy.width=0"),
        ({**good, "toy": None}, "toy=None"),
        ({key: good[key] for key in ("seed", "toy")}, "other is missing"),
    ]:
        with pytest.raises(ConfigError, match=key):
            validate(bad, Schema)


def test_keys_that_are_not_their_group_are_looked_up_in_it():
    class Aliased(TypedDict):
        predictor_optimizer: Component

    with pytest.raises(ConfigError, match=r"predictor_optimizer.lr is missing; optimizer=adam needs"):
        validate({"predictor_optimizer": {"name": "adam"}}, Aliased)


def test_a_name_cannot_be_taken_twice():
    with pytest.raises(ValueError, match="toy/net is both in"):
        register("toy", "net")(Constant)


def test_plugins_register_on_first_use(monkeypatch):
    class Plugin:
        def load(self):
            register("toy_plugin", "theirs")(Constant)

    import tpdm.registry

    monkeypatch.setattr(
        tpdm.registry, "entry_points", lambda group: [Plugin()] if group == "tpdm.plugins" else []
    )
    tpdm.registry._load_plugins.cache_clear()
    assert names("toy_plugin") == ["theirs"]


def test_choices_are_what_stands_between_slash_and_star():
    assert list(choices(scaled)) == ["gamma"]
    assert list(choices(Net)) == ["width", "dropout", "kind", "betas", "bias", "note", "step"]


def test_a_name_alone_is_one_of_those_that_are_registered(monkeypatch):
    """Whenever they were, and where nothing has to be chosen, as for `scaled`."""
    monkeypatch.setitem(registry._components, ("toy/step", "plain"), lambda x, /: x)
    for step in ("plain", None):
        assert build("toy", {"name": "stepping", "step": step}).step == step
    for step in ("doubled", "scaled"):
        line = f"toy.step='{step}' (str) is not accepted; accepted: str of toy/step: plain or null"
        with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
            build("toy", {"name": "stepping", "step": step})


def test_facts_are_what_stands_behind_the_star():
    assert facts(Net) == {"shape", "extra"}
    assert facts(Sum) == set()


def test_components_by_their_names_may_be_left_out():
    assert build("toy", {"name": "sum", "weights": []}).terms == {}
    with pytest.raises(ConfigError, match=r"toy\.weights is missing"):
        build("toy", {"name": "sum", "terms": {}})


def test_what_is_called_with_known_arguments_is_made_of_what_fits():
    """A class for what it makes; and only what needs nothing that nobody offers, once that is known."""
    cfg = {"part": {"name": "stepping", "step": None}, "step": {"name": "scaled", "gamma": 0.5}}
    picky = build("toy", {"name": "picky", **cfg}, shape=(3, 4))
    assert isinstance(picky.part(), Stepping)
    assert picky.step(2.0) == 3.0
    validate({"seed": 1, "toy": {"name": "picky", **cfg}}, TypedDict("Any", {"seed": int, "toy": Component}))
    with pytest.raises(
        ConfigError, match=r"toy\.step\.name='scaled' .*; it needs shape, which it is not told"
    ):
        build("toy", {"name": "picky", **cfg})
    with pytest.raises(ConfigError, match=r"'constant' .*; it makes no Stepping; accepted: stepping$"):
        build("toy", {"name": "picky", **cfg, "part": {"name": "constant", "value": 1.0}}, shape=(3, 4))
