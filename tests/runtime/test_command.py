"""Settings that are written as words, read back by a shell and by Hydra."""

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tpdm.runtime.command import command_line, settings

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_categories=["C"]), min_size=1)
HARD = st.sampled_from(["null", "True", "1e5", "./a b/c.txt", "a, [b", "it's", "\\", "\\'", "$${a}", "~/x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | HARD
NAMES = st.sampled_from(["prompts", "out", "steps", "reward"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner))


@examples(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, VALUES))
def test_a_shell_and_hydra_read_what_was_written(values):
    module, *words = shlex.split(command_line("tpdm.evaluate", settings(values)))[2:]
    assert module == "tpdm.evaluate"
    overrides = [each for each in OverridesParser.create().parse_overrides(words) if not each.is_delete()]
    read = OmegaConf.create({each.key_or_group: each.value() for each in overrides})
    assert OmegaConf.to_container(read, resolve=True) == values
