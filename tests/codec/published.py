"""Tiny random text encoders and tokenizers, saved in the layout in which they are published."""

from pathlib import Path
from string import ascii_lowercase

import torch

LETTERS = [*ascii_lowercase, ","]


def save_clip(folder: Path, projected: bool = True):
    """A whole CLIP with its projection, as OpenAI's, or a text model alone, as in Stable Diffusion.

    Returns the model and its tokenizer.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

    pieces = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokenizer = CLIPTokenizer(vocab={piece: k for k, piece in enumerate(pieces)}, merges=[])
    small = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "projection_dim": 12,
    }  # fmt: skip
    text = {"vocab_size": len(pieces), "max_position_embeddings": 10, "bos_token_id": 0, "eos_token_id": 1}
    vision = {"image_size": 8, "patch_size": 4}
    torch.manual_seed(0)
    config = CLIPConfig(text_config={**small, **text}, vision_config={**small, **vision}, projection_dim=12)
    model = CLIPModel(config) if projected else CLIPTextModel(config.text_config)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def save_t5(folder: Path):
    """An encoder and its tokenizer, which are also returned."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -5.0), ("▁", -2.0), *((k, -3.0) for k in LETTERS)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    model = T5EncoderModel(T5Config(**sizes)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer
