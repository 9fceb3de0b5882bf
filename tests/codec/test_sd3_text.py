"""Captions of a tiny pipeline in the published layout, against the pipeline itself."""

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from tests.pipelines import save_pipeline
from tpdm.codec.sd3_text import SD3Text

PROMPTS = ["a red cat", "sunset over the mountains", "a red cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("sd3"))


def text_of(folder, **choices):
    return SD3Text(
        **{"path": str(folder), "max_tokens": 16, "batch_size": 2, "dtype": "float32", "cache": None}
        | choices
    )


def test_they_are_what_the_pipeline_encodes(folder):
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder)
    tokens, nothing, pooled, pooled_nothing = pipeline.encode_prompt(
        PROMPTS, None, None, max_sequence_length=16
    )
    codec = text_of(folder)
    text = codec(PROMPTS)
    torch.testing.assert_close(text.tokens, tokens, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(text.pooled, pooled, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(codec.null.tokens, nothing[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(codec.null.pooled, pooled_nothing[:1], atol=1e-5, rtol=1e-4)
    spec = codec.spec
    assert text.tokens.shape[1:] == (spec.max_tokens, spec.token_width)
    assert text.pooled.shape[1] == spec.pooled_width
    assert text.mask.all()


def test_from_the_cache_they_are_the_same_without_the_encoders(folder, tmp_path, monkeypatch):
    first = text_of(folder, cache=str(tmp_path / "cache"))(PROMPTS)
    monkeypatch.setattr(SD3Text, "encode", lambda self, captions: [None][: len(captions)])
    again = text_of(folder, cache=str(tmp_path / "cache"))(PROMPTS[::-1])
    assert torch.equal(again.tokens, first.tokens.flip(0))
    assert torch.equal(again.pooled, first.pooled.flip(0))


def test_the_cache_knows_how_a_caption_was_encoded(folder, tmp_path):
    cache = str(tmp_path / "cache")
    text_of(folder, cache=cache)(PROMPTS)
    assert text_of(folder, cache=cache, max_tokens=8)(PROMPTS).tokens.shape[1] == 77 + 8
    assert text_of(folder, cache=cache, dtype="bfloat16")(PROMPTS).tokens.dtype == torch.bfloat16


def test_a_missing_encoder_is_named(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"codec\.text\.path=.* has no model_index\.json; expected there: .*text_enc"
    ):
        text_of(tmp_path)
