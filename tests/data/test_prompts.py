"""Prompts in the three forms that people keep them in."""

import pytest
import torch

from tpdm.data.loader import Loader
from tpdm.data.prompts import Prompts, read_prompts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a cat\n\n  ein Löwe \r\n"),
        ("a.txt", "\ufeffa cat\nein Löwe"),
        ("a.json", '["a cat", {"caption": "ein Löwe"}]'),
        ("a.jsonl", '{"prompt": "a cat"}\n"ein Löwe"\n'),
    ],
)
def test_each_form_is_read(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_prompts(tmp_path / name) == ["a cat", "ein Löwe"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\n\xff\xfe", r"a\.txt is not UTF-8, at byte 5"),
        ("a.json", b"{}", r"a\.json is no list of prompts"),
        ("a.json", b'["a", ', r"a\.json, is not JSON"),
        ("a.json", b"[" * 100_000, r"a\.json, is not JSON"),
        ("a.json", b'["a", 3]', r"a\.json, entry 1, is no prompt"),
        ("a.jsonl", b'"a"\n{"x": 1}', r"a\.jsonl, line 2, is no prompt"),
        ("a.jsonl", b'"a"\n{"x"', r"a\.jsonl, line 2, is not JSON"),
        ("a.jsonl", b'"a \\ud83d\\ude00"\n"a \\ud83d"', r"a\.jsonl, line 2, has a half of a letter"),
        ("a.csv", b"a", r"a\.csv is not understood; accepted: \.txt, \.json, \.jsonl"),
    ],
)
def test_what_is_no_prompt_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / name)


def test_prompts_have_no_images(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\nc\nd")
    data = Prompts(str(tmp_path / "a.txt"), 32, 3, 0.5, split="test")
    x0, prompts = data.batch(20, torch.Generator().manual_seed(0))
    assert x0.shape == (20, 0, 32, 32)
    assert len(set(prompts)) == 2
    with pytest.raises(ValueError, match="data=prompts has no images"):
        next(Loader(data, 2, 0))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="has 0 prompts"):
        Prompts(str(tmp_path / "empty.txt"), 32, 3, 0.0, split="train")
