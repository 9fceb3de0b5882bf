"""Tiny scorers with random weights, saved under the names and in the files of the published ones."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

MED = {  # med_config.json, its sizes made small
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 24,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 48,
    "model_type": "bert",
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 40,
    "encoder_width": 768,
    "add_cross_attention": True,
}
WORDS = ["a", "red", "blue", "cat", "dog", "on", "the", "mat", "sunset", "over", "mountains", ",", "."]


def image_reward_weights(
    width: int = 32, size: int = 16, patch: int = 8, depth: int = 2
) -> dict[str, Tensor]:
    """Random tensors under every name of ImageReward.pt."""
    torch.manual_seed(0)
    text, hidden = MED["hidden_size"], MED["intermediate_size"]
    state: dict[str, Tensor] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs)

    def norm(name: str, size: int) -> None:
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(size)
        state[f"{name}.bias"] = 0.1 * torch.randn(size)

    vit = "blip.visual_encoder"
    state[f"{vit}.cls_token"] = torch.randn(1, 1, width)
    state[f"{vit}.pos_embed"] = torch.randn(1, (size // patch) ** 2 + 1, width)
    state[f"{vit}.patch_embed.proj.weight"] = torch.randn(width, 3, patch, patch) / patch
    state[f"{vit}.patch_embed.proj.bias"] = torch.randn(width)
    for block in (f"{vit}.blocks.{k}" for k in range(depth)):
        norm(f"{block}.norm1", width)
        linear(f"{block}.attn.qkv", width, 3 * width)
        linear(f"{block}.attn.proj", width, width)
        norm(f"{block}.norm2", width)
        linear(f"{block}.mlp.fc1", width, 4 * width)
        linear(f"{block}.mlp.fc2", 4 * width, width)
    norm(f"{vit}.norm", width)

    bert = "blip.text_encoder"
    state[f"{bert}.embeddings.position_ids"] = torch.arange(MED["max_position_embeddings"])[None]
    state[f"{bert}.embeddings.word_embeddings.weight"] = torch.randn(MED["vocab_size"], text)
    state[f"{bert}.embeddings.position_embeddings.weight"] = torch.randn(MED["max_position_embeddings"], text)
    norm(f"{bert}.embeddings.LayerNorm", text)
    for layer in (f"{bert}.encoder.layer.{k}" for k in range(MED["num_hidden_layers"])):
        for kind, source in (("attention", text), ("crossattention", width)):
            linear(f"{layer}.{kind}.self.query", text, text)
            linear(f"{layer}.{kind}.self.key", source, text)
            linear(f"{layer}.{kind}.self.value", source, text)
            linear(f"{layer}.{kind}.output.dense", text, text)
            norm(f"{layer}.{kind}.output.LayerNorm", text)
        linear(f"{layer}.intermediate.dense", text, hidden)
        linear(f"{layer}.output.dense", hidden, text)
        norm(f"{layer}.output.LayerNorm", text)
    linear("blip.vision_proj", width, 8)
    linear("blip.text_proj", text, 8)
    for name, inputs, outputs in (("0", text, 20), ("2", 20, 16), ("4", 16, 12), ("6", 12, 8), ("7", 8, 1)):
        linear(f"mlp.layers.{name}", inputs, outputs)
    return state


def save_image_reward(folder: Path) -> Path:
    """ImageReward.pt, med_config.json and a BERT tokenizer, in one folder."""
    folder.mkdir()
    torch.save(image_reward_weights(), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(MED))
    save_word_tokenizer(folder)
    return folder


def save_word_tokenizer(folder: Path) -> None:
    """BERT's lower-case WordPiece, of a few whole words."""
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: k for k, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def save_clip(folder: Path) -> Path:
    """A CLIP with its processor, as transformers saves them."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**layers, "vocab_size": 600, "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 0}
    vision = {**layers, "image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        folder
    )
    clip_tokenizer(16).save_pretrained(folder)
    return folder


def clip_tokenizer(max_tokens: int):
    """CLIP's byte-pair tokenizer with no merges: letters, and letters that end a word."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(
        vocab={piece: k for k, piece in enumerate(pieces)}, merges=[], model_max_length=max_tokens
    )
