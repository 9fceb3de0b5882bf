"""Somebody else's package brings a component, and its YAML lies in a folder of theirs."""

import pytest

import tpdm.registry
from tests.runs import command
from tpdm import train

MODULE = """
from torch import nn

from tpdm.registry import Positive, register
from tpdm.types import FeatureSpec


@register("predictor", "mine")
class Mine(nn.Module):
    def __init__(self, size: Positive[int], *, features: FeatureSpec):
        super().__init__()
        self.layer = nn.Linear(features.width, size)

    def forward(self, features, t):
        return self.layer(features.last).mean()
"""


@pytest.fixture
def forgotten():
    """What the test registers is gone after it."""
    yield
    del tpdm.registry._components["predictor", "mine"]


@pytest.mark.usefixtures("forgotten")
def test_a_component_of_another_package_is_chosen_on_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(MODULE)
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tpdm.plugins]\ntheirs = theirs\n")
    yaml = tmp_path / "conf" / "predictor" / "mine.yaml"
    yaml.parent.mkdir(parents=True)
    yaml.write_text("name: mine\nsize: 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    tpdm.registry._load_plugins.cache_clear()

    argv = ("-cd", str(tmp_path / "conf"), "predictor=mine", "baseline=null", "dry_run=true")
    ended = command(train.main, *argv)
    assert ended.status == 0, ended.err
    assert "predictor: 679 parameters" in ended.out
    ended = command(train.main, *argv, "predictor.size=0")
    assert "predictor.size=0 (int) is not accepted; accepted: int > 0" in ended.err
