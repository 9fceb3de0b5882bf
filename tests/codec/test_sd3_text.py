"""Captions of a tiny pipeline in the published layout, against the pipeline itself."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from tests.pipelines import save_pipeline
from tpdm.assembly import text_sha256
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


def test_the_encoders_are_read_once_for_the_prompts_and_for_none(folder, monkeypatch):
    read, loads = StableDiffusion3Pipeline.from_pretrained, []
    monkeypatch.setattr(
        StableDiffusion3Pipeline, "from_pretrained", lambda *a, **k: loads.append(1) or read(*a, **k)
    )
    text = text_of(folder)
    asked = text(PROMPTS)
    alone = text_of(folder).null
    torch.testing.assert_close(text.null.tokens, alone.tokens, atol=1e-5, rtol=1e-4)
    assert len(loads) == 2  # of two
    assert len(asked.tokens) == len(PROMPTS)


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


def swap_words(path):
    """What stood for one now stands for the other; CLIP's tiny tokenizer knows letters, T5's words."""
    about = json.loads(path.read_text())
    vocabulary = about["model"]["vocab"]
    one, other = ("red", "cat") if "red" in vocabulary else ("r", "c")
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(about))


def test_another_encoder_or_tokenizer_is_told_from_these(folder, tmp_path):
    """A tokenizer too, which has no weights and keeps its length."""
    known = {text_sha256(text_of(folder)), text_sha256(text_of(folder, max_tokens=8))}
    assert len(known) == 2
    assert text_sha256(text_of(folder)) in known
    cache = str(tmp_path / "cache")
    kept = text_of(folder, cache=cache)(["a red cat"])
    for k, part in enumerate(("tokenizer", "tokenizer_2", "tokenizer_3")):
        other = shutil.copytree(folder, tmp_path / part)
        swap_words(other / part / "tokenizer.json")
        known.add(text_sha256(text_of(other)))
        assert len(known) == 3 + k
        assert not torch.equal(text_of(other, cache=cache)(["a red cat"]).tokens, kept.tokens)
    weights = tmp_path / "tokenizer" / "text_encoder_2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert text_sha256(text_of(tmp_path / "tokenizer")) not in known


def test_a_missing_encoder_is_named(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"codec\.text\.path=.* has no model_index\.json; expected there: .*text_enc"
    ):
        text_of(tmp_path)
