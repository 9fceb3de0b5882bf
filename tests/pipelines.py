"""Tiny random Stable Diffusion 3 pipelines in the published layout: what `from_pretrained` reads."""

from pathlib import Path

import torch

from tests.reward.published import WORDS, clip_tokenizer

SD35 = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}  # what SD3.5 medium has and SD3 has not


def save_pipeline(folder: Path, **transformer) -> Path:
    """32 x 32 pixels to latents of 8 x 8; model_index.json and nine subfolders."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        T5Config,
        T5EncoderModel,
    )

    torch.manual_seed(0)
    layers = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {"vocab_size": 600, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 1}
    clips = [
        CLIPTextModelWithProjection(CLIPTextConfig(**layers, **words, projection_dim=width))
        for width in (6, 10)
    ]
    t5 = T5EncoderModel(T5Config(vocab_size=40, d_model=20, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    sizes = {
        "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 2,
        "attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16,
        "joint_attention_dim": 20, "pooled_projection_dim": 16, "pos_embed_max_size": 8,
    }  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4), latent_channels=4, norm_num_groups=2, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    network = SD3Transformer2DModel(**sizes | transformer)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    pipeline = StableDiffusion3Pipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=clips[0],
        tokenizer=clip_tokenizer(77),
        text_encoder_2=clips[1],
        tokenizer_2=clip_tokenizer(77),
        text_encoder_3=t5,
        tokenizer_3=t5_tokenizer(),
    )
    pipeline.save_pretrained(folder)
    return folder


def t5_tokenizer():
    """Words with T5's marks: padding is 0, the end of a text is 1."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=256,
    )
