"""Tiny random weights under the names and in the sizes that published models have."""

import math

import torch

from tpdm.nn.tokens import positions_2d

WIDTH, HEADS, DEPTH, CLASSES, CHANNELS, SIDE, TEXT = 32, 2, 2, 10, 4, 8, 6


def linear(name, out, into, bias=True):
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def drawn(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def around_the_blocks(patch_size, outputs, width):
    """What DiT and DiffiT share."""
    tokens = (SIDE // patch_size) ** 2
    shapes = {"x_embedder.proj.weight": (width, CHANNELS, patch_size, patch_size)}
    shapes |= {"x_embedder.proj.bias": (width,), "y_embedder.embedding_table.weight": (CLASSES + 1, width)}
    shapes |= linear("t_embedder.mlp.0", width, 256) | linear("t_embedder.mlp.2", width, width)
    shapes |= linear("final_layer.linear", outputs * CHANNELS * patch_size**2, width)
    side = math.isqrt(tokens)
    return drawn(shapes) | {"pos_embed": positions_2d(width, (side, side))[None]}


def dit(patch_size=2, outputs=2, width=WIDTH):
    shapes = linear("final_layer.adaLN_modulation.1", 2 * width, width)
    for k in range(DEPTH):
        shapes |= linear(f"blocks.{k}.attn.qkv", 3 * width, width)
        shapes |= linear(f"blocks.{k}.attn.proj", width, width)
        shapes |= linear(f"blocks.{k}.mlp.fc1", 4 * width, width)
        shapes |= linear(f"blocks.{k}.mlp.fc2", width, 4 * width)
        shapes |= linear(f"blocks.{k}.adaLN_modulation.1", 6 * width, width)
    return around_the_blocks(patch_size, outputs, width) | drawn(shapes, seed=1)


def diffit(patch_size=2, outputs=2, width=WIDTH):
    side = SIDE // patch_size
    row, column = torch.arange(side**2) // side, torch.arange(side**2) % side
    offset = (row[:, None] - row + side - 1) * (2 * side - 1) + column[:, None] - column + side - 1
    shapes, index = {}, {}
    for k in range(DEPTH):
        shapes |= linear(f"blocks.{k}.attn.qkv", 3 * width, width)
        shapes |= linear(f"blocks.{k}.attn.qkv_temb", 3 * width, width)
        shapes |= linear(f"blocks.{k}.attn.proj", width, width)
        shapes |= linear(f"blocks.{k}.mlp.fc1", 4 * width, width)
        shapes |= linear(f"blocks.{k}.mlp.fc2", width, 4 * width)
        shapes[f"blocks.{k}.attn.relative_position_bias_table"] = ((2 * side - 1) ** 2, HEADS)
        index[f"blocks.{k}.attn.relative_position_index"] = offset.clone()
    return around_the_blocks(patch_size, outputs, width) | drawn(shapes, seed=1) | index


def tld(patch_size=2, width=64, fourier_width=16):
    trunk, patch = "denoiser_trans_block", CHANNELS * patch_size**2
    tokens = (SIDE // patch_size) ** 2
    embed = f"{trunk}.patchify_and_embed"
    shapes = {f"{embed}.0.weight": (patch, CHANNELS, patch_size, patch_size), f"{embed}.0.bias": (patch,)}
    shapes |= {
        f"{embed}.{k}.{p}": (size,) for k, size in ((2, patch), (4, width)) for p in ("weight", "bias")
    }
    shapes |= linear(f"{embed}.3", width, patch) | {f"{trunk}.pos_embed.weight": (tokens, width)}
    shapes |= linear(f"{trunk}.out_proj.0", patch, width) | linear("label_proj", width, TEXT)
    shapes |= linear("fourier_feats.1", width, fourier_width) | linear("fourier_feats.3", width, width)
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    for block in (f"{trunk}.decoder_blocks.{k}" for k in range(DEPTH)):
        shapes |= linear(f"{block}.self_attention.qkv_linear", 3 * width, width, bias=False)
        shapes |= linear(f"{block}.cross_attention.q_linear", width, width, bias=False)
        shapes |= linear(f"{block}.cross_attention.kv_linear", 2 * width, width, bias=False)
        shapes |= {f"{block}.norm{k}.{p}": (width,) for k in (1, 2, 3) for p in ("weight", "bias")}
        shapes |= {
            f"{block}.mlp.mlp.0.weight": (4 * width, width, 1, 1),
            f"{block}.mlp.mlp.0.bias": (4 * width,),
        }
        shapes |= {f"{block}.mlp.mlp.1.weight": (4 * width, 1, 3, 3), f"{block}.mlp.mlp.1.bias": (4 * width,)}
        shapes |= {f"{block}.mlp.mlp.3.weight": (width, 4 * width, 1, 1), f"{block}.mlp.mlp.3.bias": (width,)}
    half = fourier_width // 2
    speeds = 2 * math.pi * torch.logspace(0, 3, half)
    constants = {"fourier_feats.0.angular_speeds": speeds}
    return drawn(shapes) | constants | {f"{trunk}.precomputed_pos_enc": torch.arange(tokens)}
