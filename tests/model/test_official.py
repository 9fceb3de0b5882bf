"""Weights under their authors' names: the answer is that of the equations, and no tensor goes unnoticed."""

import math

import pytest
import torch
from diffusers import DiTTransformer2DModel
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d, gelu, layer_norm, linear, pixel_shuffle, silu

from tests.model import official
from tests.model.official import CHANNELS, CLASSES, DEPTH, HEADS, SIDE
from tpdm.model.diffit import DiffiT
from tpdm.model.dit import DiT
from tpdm.model.tld import TLD

X = torch.randn(3, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
TIMESTEP, LABELS = torch.tensor([0.0, 37.0, 999.0]), torch.tensor([[3], [CLASSES], [9]])  # one of them null
FREE = {("y_embedder.embedding_table.weight", 0), ("label_proj.weight", 1)}  # classes, and width of the text
MODELS = [(DiT, official.dit, HEADS), (DiffiT, official.diffit, HEADS), (TLD, official.tld, 1)]


def of_diffusers(state, patch_size, outputs):
    """diffusers' DiT with the same weights; it has a copy of both embeddings in every block."""
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=official.WIDTH // HEADS, in_channels=CHANNELS,
        out_channels=outputs * CHANNELS, num_layers=DEPTH, sample_size=SIDE, patch_size=patch_size,
        num_embeds_ada_norm=CLASSES,
    ).eval()  # fmt: skip
    names = {"pos_embed.proj": "x_embedder.proj", "proj_out_2": "final_layer.linear"}
    names |= {"proj_out_1": "final_layer.adaLN_modulation.1"}
    theirs = {}
    for k in range(DEPTH):
        block, embedding = f"transformer_blocks.{k}", f"transformer_blocks.{k}.norm1.emb"
        names |= {f"{embedding}.timestep_embedder.linear_{n + 1}": f"t_embedder.mlp.{2 * n}" for n in (0, 1)}
        names |= {f"{block}.norm1.linear": f"blocks.{k}.adaLN_modulation.1"}
        names |= {f"{block}.attn1.to_out.0": f"blocks.{k}.attn.proj"}
        names |= {f"{block}.ff.net.0.proj": f"blocks.{k}.mlp.fc1", f"{block}.ff.net.2": f"blocks.{k}.mlp.fc2"}
        table = state["y_embedder.embedding_table.weight"]
        theirs[f"{embedding}.class_embedder.embedding_table.weight"] = table
        for part in ("weight", "bias"):
            for name, x in zip("qkv", state[f"blocks.{k}.attn.qkv.{part}"].chunk(3), strict=True):
                theirs[f"{block}.attn1.to_{name}.{part}"] = x
    for name, ours in names.items():
        theirs |= {f"{name}.{part}": state[f"{ours}.{part}"] for part in ("weight", "bias")}
    missing, unexpected = model.load_state_dict(theirs, strict=False)
    assert set(missing) <= {"pos_embed.pos_embed"}
    assert not unexpected
    for block in model.transformer_blocks:  # diffusers spreads 128 frequencies over 127 steps, DiT over 128
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    return model


@torch.no_grad()
@pytest.mark.parametrize(("patch_size", "outputs"), [(2, 2), (4, 1)])
def test_dit_answers_as_diffusers_does(patch_size, outputs):
    state = official.dit(patch_size, outputs)
    model = DiT.from_official(state, HEADS)
    raw, features = model(X, TIMESTEP, LABELS)
    expected = of_diffusers(state, patch_size, outputs)(X, TIMESTEP.long(), LABELS[:, 0]).sample
    torch.testing.assert_close(raw, expected, atol=1e-5, rtol=1e-5)
    assert raw.shape == (3, outputs * CHANNELS, SIDE, SIDE)
    assert not model.training
    assert torch.equal(raw, model(X, TIMESTEP, LABELS[:, 0])[0])  # labels as (B,), as its authors have them
    assert features.last.shape == (3, (SIDE // patch_size) ** 2, official.WIDTH)


def apply(state, name, x):
    return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def normed(state, name, x):
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def attention(q, k, v, heads, bias=0.0):
    q, k, v = (torch.stack(x.chunk(heads, dim=-1), dim=1) for x in (q, k, v))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + bias).softmax(-1)
    return torch.cat((weights @ v).unbind(1), dim=-1)


def tokens_of(x):
    return x.flatten(2).transpose(1, 2)


def diffit_by_hand(state, x, timestep, labels, patch_size):
    """Hatamizadeh et al. 2024, eq. 3 to 8; the condition c is the sum of time and label."""
    plain = lambda x: layer_norm(x, x.shape[-1:], eps=1e-6)  # noqa: E731
    angle = timestep[:, None] * 1e4 ** (-torch.arange(128) / 128)
    time = apply(state, "t_embedder.mlp.0", torch.cat([angle.cos(), angle.sin()], dim=1))
    c = (
        apply(state, "t_embedder.mlp.2", silu(time))
        + state["y_embedder.embedding_table.weight"][labels[:, 0]]
    )
    patches = conv2d(x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"], stride=patch_size)
    h = tokens_of(patches) + state["pos_embed"]
    for block in (f"blocks.{k}" for k in range(DEPTH)):
        bias = state[f"{block}.attn.relative_position_bias_table"]
        bias = bias[state[f"{block}.attn.relative_position_index"]].permute(2, 0, 1)  # (heads, N, N)
        qkv = apply(state, f"{block}.attn.qkv", plain(h)) + apply(state, f"{block}.attn.qkv_temb", c)[:, None]
        h = h + apply(state, f"{block}.attn.proj", attention(*qkv.chunk(3, dim=-1), HEADS, bias))
        hidden = gelu(apply(state, f"{block}.mlp.fc1", plain(h)), approximate="tanh")
        h = h + apply(state, f"{block}.mlp.fc2", hidden)
    out = apply(state, "final_layer.linear", silu(plain(h)))  # (B, N, (row, column, channel))
    side = SIDE // patch_size
    out = out.unflatten(2, (patch_size**2, -1)).transpose(2, 3).flatten(2)  # (channel, row, column)
    return pixel_shuffle(out.transpose(1, 2).unflatten(2, (side, side)), patch_size)


@torch.no_grad()
@pytest.mark.parametrize(("patch_size", "outputs"), [(2, 2), (4, 1)])
def test_diffit_is_its_equations(patch_size, outputs):
    state = official.diffit(patch_size, outputs)
    raw, _ = DiffiT.from_official(state, HEADS)(X, TIMESTEP, LABELS)
    expected = diffit_by_hand(state, X, TIMESTEP, LABELS, patch_size)
    torch.testing.assert_close(raw, expected, atol=2e-5, rtol=1e-5)


def tld_by_hand(state, x, level, text, heads, patch_size=2):
    """Two tokens of context, noise level and text; the MLP's convolution sees the map of tokens."""
    trunk, side = "denoiser_trans_block", SIDE // patch_size
    angle = level[:, None] * state["fourier_feats.0.angular_speeds"]
    level = gelu(apply(state, "fourier_feats.1", torch.cat([angle.sin(), angle.cos()], dim=1)))
    level, text = apply(state, "fourier_feats.3", level), apply(state, "label_proj", text)
    context = normed(state, "norm", torch.stack([level, text], dim=1))
    embed = f"{trunk}.patchify_and_embed"
    h = tokens_of(conv2d(x, state[f"{embed}.0.weight"], state[f"{embed}.0.bias"], stride=patch_size))
    h = normed(state, f"{embed}.4", apply(state, f"{embed}.3", normed(state, f"{embed}.2", h)))
    h = h + state[f"{trunk}.pos_embed.weight"]
    for block in (f"{trunk}.decoder_blocks.{k}" for k in range(DEPTH)):
        qkv = apply(state, f"{block}.self_attention.qkv_linear", normed(state, f"{block}.norm1", h))
        h = h + attention(*qkv.chunk(3, dim=-1), heads)
        q = apply(state, f"{block}.cross_attention.q_linear", normed(state, f"{block}.norm2", h))
        kv = apply(state, f"{block}.cross_attention.kv_linear", context)
        h = h + attention(q, *kv.chunk(2, dim=-1), heads)
        y = normed(state, f"{block}.norm3", h).transpose(1, 2).unflatten(2, (side, side))
        weight, bias = ([state[f"{block}.mlp.mlp.{k}.{p}"] for k in (0, 1, 3)] for p in ("weight", "bias"))
        y = conv2d(conv2d(y, weight[0], bias[0]), weight[1], bias[1], padding=1, groups=len(weight[1]))
        h = h + tokens_of(conv2d(gelu(y), weight[2], bias[2]))
    out = apply(state, f"{trunk}.out_proj.0", h)  # (B, N, (channel, row, column))
    return pixel_shuffle(out.transpose(1, 2).unflatten(2, (side, side)), patch_size)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_tld_is_its_equations(heads):
    state = official.tld()
    level, text = torch.tensor([0.99, 0.3, 1 / 64]), torch.randn(3, official.TEXT)
    text[1] = 0  # no caption
    raw, _ = TLD.from_official(state, heads)(X, 1000 * level, text)
    torch.testing.assert_close(raw, tld_by_hand(state, X, level, text, heads), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("model", "make", "heads"), MODELS)
def test_every_tensor_is_needed(model, make, heads):
    for name in (state := make()):
        with pytest.raises(ValueError, match="official"):
            model.from_official({key: x for key, x in state.items() if key != name}, heads)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), which=st.sampled_from(MODELS))
def test_a_tensor_that_is_left_over_or_of_another_size_is_refused(data, which):
    model, make, heads = which
    state = make()
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(["blocks.7.attn.qkv.weight", "extra", "blocks.0.attn.qkv.scale"]))
        state[name] = torch.zeros(2)
    else:
        name = data.draw(st.sampled_from(sorted(state)))
        axis = data.draw(st.integers(0, state[name].ndim - 1))
        assume((name, axis) not in FREE)
        state[name] = torch.cat([state[name], state[name].narrow(axis, 0, 1)], dim=axis)
    with pytest.raises(ValueError, match=r"official|positions|model\."):
        model.from_official(state, heads)


@pytest.mark.parametrize(("model", "make", "heads"), MODELS)
def test_axes_and_heads_that_cannot_be_are_refused(model, make, heads):
    state = make()
    for name in state:
        with pytest.raises(ValueError, match="official"):
            model.from_official(state | {name: state[name][None, None]}, heads)
    with pytest.raises(ValueError, match=r"does not divide over model.num_heads=5|official"):
        model.from_official(state, 5)


def test_half_precision_weights_become_float32():
    state = {name: x.half() for name, x in official.dit().items()}
    raw, _ = DiT.from_official(state, HEADS)(X, TIMESTEP, LABELS)
    assert raw.dtype == torch.float32
