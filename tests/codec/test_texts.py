"""Every text codec: what it makes of captions, against transformers where it has weights of others."""

import shutil
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.published import save_clip, save_t5
from tpdm.codec.transformer_text import MARKS, fit_vocabulary, word_tokenizer
from tpdm.registry import build, names
from tpdm.types import Text

CAPTIONS = ["a bold three, tilted left", "a thin two", "an eight"]
SIZES = {"width": 16, "depth": 1, "num_heads": 2, "max_tokens": 10, "max_words": 20}
WORDS = st.lists(st.sampled_from(["a", "bold", "three", ",", "tilted", "left"]), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    save_clip(folder / "clip")
    save_clip(folder / "text", projected=False)
    save_t5(folder / "t5")
    return folder


@pytest.fixture(scope="module")
def configs(folder):
    def found(name):
        return {"name": name, "path": str(folder / name), "tokenizer": None, "dtype": "float32"}

    return {
        "labels": {"name": "labels"},
        "transformer_text": {"name": "transformer_text", **SIZES},
        "clip": found("clip"),
        "t5": {**found("t5"), "max_tokens": 12},
    }


def made(cfg, captions=CAPTIONS, vocabulary=None):
    return build("codec/text", cfg, captions=lambda: captions, vocabulary=vocabulary)


def encoded(text, captions):
    """As a sampler meets it."""
    torch.manual_seed(0)
    network, read = text.network(), text(captions)
    return read if network is None else network.eval()(read)


OTHERS = {"labels", "sd3"}  # no text; the encoders of a pipeline, whose tests are beside these


@pytest.mark.parametrize("name", [name for name in names("codec/text") if name not in OTHERS])
def test_every_encoder_keeps_the_contract(name, configs):
    text = made(configs[name])
    answer = encoded(text, ["a two", "a three, a"])
    assert isinstance(answer, Text)
    assert text.reads == "captions"
    assert answer.pooled.shape == (2, text.spec.pooled_width)
    assert answer.tokens.shape == (2, text.spec.max_tokens, text.spec.token_width)
    assert answer.mask.shape == (2, text.spec.max_tokens)
    assert answer.mask.any(1).all()
    assert answer.mask.sum(1)[0] < answer.mask.sum(1)[1]
    alone = encoded(text, ["a three, a"])
    torch.testing.assert_close(alone.pooled[0], answer.pooled[1])
    torch.testing.assert_close(alone.tokens[0][alone.mask[0]], answer.tokens[1][answer.mask[1]])
    assert not torch.allclose(answer.pooled[0], answer.pooled[1])


def test_labels_are_left_as_they_are(configs):
    text, labels = made(configs["labels"]), torch.tensor([[3], [7]])
    assert text(labels) is labels
    assert (text.reads, text.spec, text.vocabulary, text.network()) == ("labels", None, None, None)


def test_clip_answers_as_transformers_does(folder, configs):
    model, tokenizer = save_clip(folder / "clip")
    given = tokenizer(["a two"], return_tensors="pt")
    answer = encoded(made(configs["clip"]), ["a two"])
    whole = model.text_model(**given)
    torch.testing.assert_close(answer.pooled, model.text_projection(whole.pooler_output))
    torch.testing.assert_close(answer.tokens[answer.mask], whole.last_hidden_state[0])


def test_a_text_model_without_a_projection_pools_at_the_end(folder, configs):
    model, tokenizer = save_clip(folder / "text", projected=False)
    answer = encoded(made({**configs["clip"], "path": str(folder / "text")}), ["a two"])
    torch.testing.assert_close(
        answer.pooled, model(**tokenizer(["a two"], return_tensors="pt")).pooler_output
    )


def test_t5_answers_as_transformers_does_and_pools_by_the_mean(folder, configs):
    model, tokenizer = save_t5(folder / "t5")
    answer = encoded(made(configs["t5"]), ["a two", "a"])
    whole = model(**tokenizer(["a two"], return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(answer.tokens[0][answer.mask[0]], whole[0])
    torch.testing.assert_close(answer.pooled[0], whole[0].mean(0))


def test_published_weights_are_frozen(configs):
    for name in ("clip", "t5"):
        assert not any(p.requires_grad for p in made(configs[name]).parameters())


@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ("", r"is no folder here, .* `hf download OWNER/NAME --local-dir FOLDER`, .* codec.text.path=FOLDER"),
        ("model.safetensors", "cannot be loaded: Error no file named model.safetensors"),
        ("config.json", "has no config.json; `hf download"),
        ("tokenizer.json", "has no tokenizer.json or vocab.json or spiece.model; `hf download"),
    ],
)
@pytest.mark.parametrize("name", ["clip", "t5"])
def test_what_is_missing_is_named(name, gone, line, folder, configs, tmp_path):
    copy = tmp_path / "copy"
    if gone:
        shutil.copytree(folder / name, copy)
        (copy / gone).unlink()
    with pytest.raises(ValueError, match=line) as error:
        made({**configs[name], "path": str(copy)})
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_of_something_else_are_refused(folder, configs):
    with pytest.raises(ValueError, match="holds no T5EncoderModel"):
        made({**configs["t5"], "path": str(folder / "clip")})


def test_a_long_prompt_is_cut_and_says_what_it_loses(configs):
    text = made(configs["transformer_text"])
    with pytest.warns(UserWarning, match=r"is longer than 10 tokens; cut off: 'tilted left, a two'"):
        ids = text(["a bold three, a bold three tilted left, a two".replace("three tilted", "three, tilted")])
    assert ids.shape == (1, 10)
    assert ids[0, -1] == MARKS.index("[END]")


@pytest.mark.parametrize("name", ["clip", "t5"])
def test_a_long_prompt_is_cut_for_published_encoders_too(name, configs):
    text = made(configs[name])
    with pytest.warns(UserWarning, match=r"is longer than 1. tokens; cut off: '.*xyz'"):
        answer = text(["abcdefghijklmno xyz"])
    assert answer.mask.all()


def test_a_data_set_of_long_captions_is_told_of_a_few_times(configs):
    text = made(configs["transformer_text"])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        text(["a bold three, tilted left " * 3] * 50)
    assert len(told) == 5
    assert str(told[-1].message).endswith("more such captions are not told of")


@given(words=WORDS)
def test_words_survive_the_tokenizer(words):
    tokenizer = word_tokenizer(fit_vocabulary(CAPTIONS, 20))
    ids = tokenizer.encode(" ".join(words).upper()).ids
    assert tokenizer.decode(ids, skip_special_tokens=False).split() == ["[BEGIN]", *words, "[END]"]


@given(st.text())
def test_any_text_can_be_read(caption):
    text = made({"name": "transformer_text", **SIZES})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = text([caption])
    assert ids.shape == (1, 10)
    assert ids[0, 0] == MARKS.index("[BEGIN]")
    assert (ids == MARKS.index("[END]")).sum() == 1


def test_an_unknown_word_is_unknown_and_marks_are_no_words(configs):
    text = made(configs["transformer_text"])
    known, unknown = text(["a zebra"]).tolist()[0], MARKS.index("[UNK]")
    assert known[2] == unknown
    assert MARKS.index("[PAD]") not in text(["[PAD]"])[0, 1:4]


def test_the_vocabulary_is_the_most_frequent_words():
    vocabulary = fit_vocabulary(["b b b a a c", "b"], max_words=2)
    assert vocabulary == [*MARKS, "b", "a"]


def test_a_kept_vocabulary_needs_no_captions(configs):
    first = made(configs["transformer_text"])
    again = made(configs["transformer_text"], captions=None, vocabulary=first.vocabulary)
    assert torch.equal(again(CAPTIONS), first(CAPTIONS))


def test_captions_without_a_word_are_refused(configs):
    with pytest.raises(ValueError, match="finds no word in the captions of data"):
        made(configs["transformer_text"], captions=[])(["a"])
