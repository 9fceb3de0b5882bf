"""Captions are handled row by row, as a tensor is."""

import pytest
import torch

from tests.ideal import IdealDenoiser
from tpdm.denoiser import Guided
from tpdm.sampler.integrate import follow, integrate
from tpdm.sampler.step import ddim
from tpdm.scheduler.flow import Flow
from tpdm.types import Text, TextSpec, cat_conditions

SPEC = TextSpec(pooled_width=2, token_width=3, max_tokens=4)


@pytest.fixture
def text():
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    return Text(torch.randn(3, 2), torch.randn(3, 4, 3), mask)


def same(a, b):
    return torch.equal(a.pooled, b.pooled) and torch.equal(a.tokens, b.tokens) and torch.equal(a.mask, b.mask)


def test_parts_join_to_the_whole(text):
    assert same(cat_conditions(text.split(2)), text)
    assert [len(part) for part in text.split(2)] == [2, 1]
    assert same(text.repeat_interleave(2)[torch.tensor([0, 2, 4])], text)


def test_a_dropped_caption_is_no_caption(text):
    some = text.without(torch.tensor([True, False, True]))
    assert same(some[[1]], text[[1]])
    assert same(some[[0]], Text.nothing(SPEC))
    assert text.mask.any(1).all()


def test_captions_follow_their_samples_through_guidance_and_a_batch_that_shrinks(text):
    """Every row reaches the network with its own caption, the unconditional ones with none."""
    seen = []

    class Watched(IdealDenoiser):
        def __call__(self, x, t, cond):
            seen.append(cond)
            return super().__call__(x, t, cond)

    denoiser = Guided(Watched(Flow(1.0, "velocity")), 2.0, null_cond=Text.nothing(SPEC))
    times = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
    integrate(denoiser, torch.randn(3, 1, 2, 2), text, follow(times), ddim, 2)
    none = Text.nothing(SPEC)
    assert same(seen[0], cat_conditions([none.repeat_interleave(3), text]))
    assert same(seen[1], cat_conditions([none, text[[1]]]))
