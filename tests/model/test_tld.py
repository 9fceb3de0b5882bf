import math

import pytest
import torch
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from tests.model.sizes import LATENTS, parameters_and_multiply_adds
from tests.tiny import COND, SHAPE, scrambled
from tpdm.model.dit import AdaLNBlock, DiT
from tpdm.model.tld import TLD, TLDBlock
from tpdm.types import Text, TextSpec

TEXT = TextSpec(pooled_width=6, token_width=5, max_tokens=3)


def tiny(width=32, num_heads=2, patch_size=2, outputs=1, dropout=0.0, cond=TEXT):
    torch.manual_seed(0)
    return TLD(width, 2, num_heads, patch_size, 50.0, 0.0, dropout, shape=SHAPE, cond=cond, outputs=outputs)


def captions(count=3):
    return Text(torch.randn(count, 6), torch.randn(count, 3, 5), torch.ones(count, 3, dtype=torch.bool))


def inputs(count=3):
    return torch.randn(count, *SHAPE), torch.rand(count) * 1000, captions(count)


def test_the_published_size():
    """101M parameters at 12 layers of 768, for CLIP's 768 on latents of 4x32x32."""
    text = TextSpec(768, 768, 77)
    parameters, _ = parameters_and_multiply_adds(
        lambda: TLD(768, 12, 12, 2, 100.0, 0.0, 0.0, shape=LATENTS, cond=text), lambda: torch.empty(1, 768)
    )
    assert parameters / 1e6 == pytest.approx(101, rel=1e-2)


@pytest.mark.parametrize("name", ["tld", "tld_small"])
def test_a_preset_brings_its_path_and_density(name, composed):
    cfg = composed(f"model={name}")
    assert (cfg["scheduler"]["name"], cfg["scheduler"]["predicts"]) == ("flow", "x0")
    assert cfg["density"] == {"name": "beta", "a": 1.0, "b": 2.5}
    assert composed(f"model={name}", "scheduler=ddpm")["scheduler"]["name"] == "ddpm"


def test_a_block_is_two_attentions_without_projections_and_the_convolving_mlp():
    block = scrambled(TLDBlock(32, 2, 0.0))
    x, context = torch.randn(2, 6, 32), torch.randn(2, 2, 32)

    def heads(y):
        return torch.stack(y.split(16, dim=-1), dim=1)

    def attention(q, k, v):
        return torch.cat(scaled_dot_product_attention(heads(q), heads(k), heads(v)).unbind(1), dim=-1)

    y = x + attention(*(block.norm1(x) @ block.qkv.weight.T).chunk(3, dim=-1))
    y = y + attention(block.norm2(y) @ block.q.weight.T, *(context @ block.kv.weight.T).chunk(2, dim=-1))
    hidden = block.mlp.up(block.norm3(y)).transpose(1, 2).unflatten(2, (2, 3))
    y = y + block.mlp.down(gelu(block.mlp.mix(hidden)).flatten(2).transpose(1, 2))
    torch.testing.assert_close(block(x, context, (2, 3)), y)


def test_features_are_what_the_model_computed():
    model, (x, timestep, text) = scrambled(tiny(outputs=2)).eval(), inputs()
    raw, features = model(x, timestep, text)
    assert raw.shape == (3, 2, 8, 8)
    angle = timestep[:, None] / 1000 * torch.logspace(math.log10(2 * math.pi), math.log10(50), 128)
    level = model.noise_level.mlp(torch.cat([angle.sin(), angle.cos()], dim=1))
    both = torch.stack([level, model.caption(text.pooled)], dim=1)
    context = layer_norm(both, (32,), model.norm.weight, model.norm.bias)
    torch.testing.assert_close(features.temb, context[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.text, context[:, 1:])
    expected = model.head(features.last[:, 6]).unflatten(1, (2, 2, 2)).permute(0, 3, 1, 2)
    torch.testing.assert_close(raw[:, :, 2:4, 4:6], expected)


def test_a_pooled_embedding_alone_is_a_caption():
    model, (x, timestep, text) = scrambled(tiny()).eval(), inputs()
    assert torch.equal(model(x, timestep, text)[0], model(x, timestep, text.pooled)[0])


def test_captions_are_dropped_in_training_alone():
    model, (x, timestep, text) = scrambled(tiny(dropout=1.0)), inputs()
    none = Text.nothing(TEXT).repeat_interleave(3)
    dropped, shown = model.train()(x, timestep, text)[0], model.eval()(x, timestep, text)[0]
    torch.testing.assert_close(dropped, model(x, timestep, none)[0])
    assert not torch.allclose(shown, dropped)


def test_it_starts_with_an_answer_of_zero():
    raw, _ = tiny()(*inputs())
    assert torch.equal(raw, torch.zeros(3, *SHAPE))


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"patch_size": 3}, r"model.patch_size=3 does not divide the 8x8 state"),
        ({"num_heads": 5}, r"model.width=32 does not divide over model.num_heads=5"),
        ({"cond": COND}, r"model=tld reads captions, but data gives labels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, complaint):
    with pytest.raises(ValueError, match=complaint):
        tiny(**sizes)


def test_a_model_of_labels_refuses_captions():
    with pytest.raises(ValueError, match="model reads labels, but data gives captions"):
        DiT(32, 1, 2, 2, 100.0, 0.1, AdaLNBlock, shape=SHAPE, cond=TEXT)
