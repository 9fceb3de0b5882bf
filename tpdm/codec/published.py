"""Networks and tokenizers that somebody published, from a folder or from the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpdm.codec.tokens import Tokens
from tpdm.runtime.hub import downloaded

KEY = "codec.text.path"
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")  # settings, weights, the tokenizer's merges or pieces
FAULTS = (OSError, ValueError, TypeError, KeyError, RuntimeError)  # of files that are missing or damaged


def load_published(kind: Any, path: str, dtype: str, spare: tuple[str, ...] = ()) -> tuple[Any, set]:
    """(a frozen `kind` from the folder or id `path`, which of `spare` its files lack).

    ValueError of one line where there are no files, or where they do not hold all of its other weights.
    """
    folder = folder_of(path, "config.json")
    with silent(), named(path):
        net, told = kind.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    lacking = set(told["missing_keys"])
    if unfit := sorted({*lacking.difference(spare), *(key for key, *_ in told["mismatched_keys"])}):
        raise ValueError(f"{KEY}={path} holds no {kind.__name__}: {unfit[0]} is missing or of another size")
    return net.eval().requires_grad_(False), lacking


def load_tokens(path: str, max_tokens: int) -> Tokens:
    """The tokenizer of the folder or id `path`. ValueError of one line where it has none."""
    from transformers import AutoTokenizer

    folder = folder_of(path, "tokenizer.json", "vocab.json", "spiece.model")
    with silent(), named(path):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Tokens(tokenizer.backend_tokenizer, max_tokens, tokenizer.pad_token_id)


def folder_of(path: str, *one_of: str) -> Path:
    """A folder with one of these files, or the copy of a repository of the hub. ValueError without either."""
    given = Path(path).expanduser()
    folder = given if given.is_dir() else downloaded(path, FILES, KEY)
    if not any((folder / name).is_file() for name in one_of):
        raise ValueError(
            f"{KEY}={path} has no {' or '.join(one_of)}; `hf download OWNER/NAME --local-dir FOLDER` gets it"
        )
    return folder


@contextmanager
def named(path: str) -> Iterator[None]:
    """What is wrong with its files, in one line."""
    try:
        yield
    except FAULTS as error:
        raise ValueError(f"{KEY}={path} cannot be loaded: {str(error).splitlines()[0]}") from None


@contextmanager
def silent() -> Iterator[None]:
    """No bars and no advice from transformers, nor from diffusers, which shows its own around them."""
    from diffusers.utils import logging as pipelines
    from transformers.utils import logging as networks

    levels = {library: library.get_verbosity() for library in (networks, pipelines)}
    bars = [library for library in levels if library.is_progress_bar_enabled()]
    for library in levels:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in levels.items():
            library.set_verbosity(level)
        for library in bars:
            library.enable_progress_bar()
