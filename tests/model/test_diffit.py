import pytest
import torch

from tests.model.sizes import CLASSES, LATENTS, one_label, parameters_and_multiply_adds
from tests.tiny import COND, SHAPE, conditions, scrambled
from tpdm.model.diffit import DiffiT
from tpdm.nn.attention import RelativeBias


def tiny(width=32, num_heads=2, patch_size=2, outputs=1):
    torch.manual_seed(0)
    return DiffiT(width, 2, num_heads, patch_size, 100.0, 0.1, shape=SHAPE, cond=COND, outputs=outputs)


def inputs(count=3):
    return torch.randn(count, *SHAPE), torch.rand(count) * 1000, conditions(count)


def test_the_published_size():
    """561M parameters, and between the 114 G of the paper and the 119 G of its code."""
    parameters, multiply_adds = parameters_and_multiply_adds(
        lambda: DiffiT(1152, 28, 16, 2, 1000.0, 0.1, shape=LATENTS, cond=CLASSES, outputs=2), one_label
    )
    assert parameters / 1e6 == pytest.approx(561, abs=0.5)
    assert 114 <= multiply_adds / 1e9 <= 119


def test_attention_is_that_of_the_paper_pair_by_pair():
    """softmax(q k / sqrt(d) + bias) v with q = x Wqs + c Wqt, written out for one query of one head."""
    block = scrambled(tiny()).blocks[0].attention
    x, cond = torch.randn(1, 16, 32), torch.randn(1, 32)
    sizes = [slice(0, 32), slice(32, 64), slice(64, 96)]
    q, k, v = (
        sum(y @ layer.weight[s].T + layer.bias[s] for y, layer in ((x, block.qkv), (cond, block.qkv_cond)))[0]
        for s in sizes
    )  # fmt: skip
    query, heads = 6, []
    for head in range(2):
        of = slice(16 * head, 16 * head + 16)
        offsets = [(query // 4 - n // 4 + 3) * 7 + query % 4 - n % 4 + 3 for n in range(16)]
        logits = k[:, of] @ q[query, of] / 16**0.5 + block.bias.table[offsets, head]
        heads.append(logits.softmax(0) @ v[:, of])
    torch.testing.assert_close(block(x, cond)[0, query], block.proj(torch.cat(heads)))


def test_the_bias_depends_on_the_offset_alone():
    bias = RelativeBias((2, 3), 2)()  # places (0, 0) (0, 1) (0, 2) (1, 0) (1, 1) (1, 2)
    assert bias.shape == (2, 6, 6)
    assert torch.equal(bias[:, 0, 1], bias[:, 4, 5])
    assert torch.equal(bias[:, 1, 3], bias[:, 2, 4])
    assert bias[0].unique().numel() == 3 * 5


def test_features_are_what_the_model_computed():
    model, (x, timestep, cond) = scrambled(tiny(outputs=2)).eval(), inputs()
    raw, features = model(x, timestep, cond)
    assert raw.shape == (3, 2, 8, 8)
    torch.testing.assert_close(features.temb, model.time(timestep) + model.label(cond).sum(1))
    tokens = features.first
    for block in model.blocks:
        tokens = block(tokens, features.temb)
    torch.testing.assert_close(features.last, torch.layer_norm(tokens, (32,), eps=1e-6))
    expected = model.head(torch.nn.functional.silu(features.last[:, 6])).unflatten(1, (2, 2, 2))
    torch.testing.assert_close(raw[:, :, 2:4, 4:6], expected.permute(0, 3, 1, 2))


def test_it_starts_with_an_answer_of_zero():
    raw, _ = tiny()(*inputs())
    assert torch.equal(raw, torch.zeros(3, *SHAPE))


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"patch_size": 3}, r"model.patch_size=3 does not divide the 8x8 state"),
        ({"num_heads": 5}, r"model.width=32 does not divide over model.num_heads=5"),
        ({"width": 30}, r"model.width=30 is not a multiple of 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, complaint):
    with pytest.raises(ValueError, match=complaint):
        tiny(**sizes)
