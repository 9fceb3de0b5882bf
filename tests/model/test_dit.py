import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import COND, SHAPE, conditions, scrambled, tiny_dit
from tpdm.model.dit import AdaLNBlock, AdaLNZeroBlock, CrossAttentionBlock, DiT, InContextBlock
from tpdm.types import CondSpec, DataShape

BLOCKS = [InContextBlock, CrossAttentionBlock, AdaLNBlock, AdaLNZeroBlock]
SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
PAPER = [  # Peebles & Xie 2023, table 4 and figure 5: 1e6 parameters, 1e9 multiply-adds
    ("S", 2, AdaLNZeroBlock, 32.96, 6.06),
    ("B", 2, AdaLNZeroBlock, 130.5, 23.01),
    ("L", 2, AdaLNZeroBlock, 458.1, 80.71),
    ("XL", 2, AdaLNZeroBlock, 675.1, 118.64),
    ("XL", 2, AdaLNBlock, 600.7, 118.6),
    ("XL", 2, CrossAttentionBlock, 598.3, 137.6),
    ("XL", 2, InContextBlock, 449.5, 119.4),
]
SMALLER = [  # the same table's larger patches: whole millions, hundredths of 1e9
    ("S", 4, 33, 1.41), ("B", 4, 131, 5.56), ("L", 4, 458, 19.70), ("XL", 4, 675, 29.05),
    ("S", 8, 33, 0.36), ("B", 8, 131, 1.42), ("L", 8, 459, 5.01), ("XL", 8, 676, 7.39),
]  # fmt: skip


def inputs(count=3):
    return torch.randn(count, *SHAPE), torch.rand(count) * 1000, conditions(count)


def size_of(size, patch_size, block):
    """1e6 parameters, the fixed positions among them as in the paper, and 1e9 multiply-adds."""
    shape, cond = DataShape(4, 32, 32), CondSpec(slots=1, symbols=1000)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = DiT(*SIZES[size], patch_size, 1000.0, 0.1, block, shape=shape, cond=cond, outputs=2)
        model(torch.empty(1, *shape), torch.empty(1), torch.empty(1, 1, dtype=torch.long))
    count = sum(p.numel() for p in model.parameters()) + model.positions.numel()
    return count / 1e6, counter.get_total_flops() / 2e9


@pytest.mark.parametrize(("size", "patch_size", "block", "parameters", "multiply_adds"), PAPER)
def test_sizes_are_those_of_the_paper(size, patch_size, block, parameters, multiply_adds):
    """Latents of 4x32x32, 1000 classes, learned variance."""
    found = size_of(size, patch_size, block)
    assert found[0] == pytest.approx(parameters, rel=5e-4)
    assert found[1] == pytest.approx(multiply_adds, rel=1e-2)


@pytest.mark.parametrize(("size", "patch_size", "parameters", "multiply_adds"), SMALLER)
def test_larger_patches_are_those_of_the_paper(size, patch_size, parameters, multiply_adds):
    found = size_of(size, patch_size, AdaLNZeroBlock)
    assert found[0] == pytest.approx(parameters, abs=0.6)
    assert found[1] == pytest.approx(multiply_adds, rel=1e-2, abs=0.006)


def test_adaln_zero_blocks_start_as_the_identity():
    """After the whole model was initialised, whose own pass over every Linear could undo it."""
    x, cond = torch.randn(3, 16, 32), torch.randn(3, 2, 32)
    for block in tiny_dit(AdaLNZeroBlock).blocks:
        assert torch.equal(block(x, cond), x)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_dit_starts_with_an_answer_of_zero(block):
    raw, _ = tiny_dit(block)(*inputs())
    assert torch.equal(raw, torch.zeros(3, *SHAPE))


@pytest.mark.parametrize("block", BLOCKS)
def test_linear_layers_start_as_in_the_paper(block):
    model = tiny_dit(block)
    for layer in (model.patch, model.blocks[0].attention.qkv, model.blocks[1].mlp.fc1):
        fan_out, fan_in = layer.weight.shape
        assert layer.weight.abs().max().item() == pytest.approx((6 / (fan_in + fan_out)) ** 0.5, rel=0.02)
        assert not layer.bias.any()
    for weight in (model.label.table.weight, model.time.mlp[0].weight, model.time.mlp[2].weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.15)


def seen_by_blocks(model, *args):
    """What entered and what left each block."""
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda block, args, out: seen.append((*args, out)))
    return seen, *model(*args)


@pytest.mark.parametrize("block", BLOCKS)
def test_tokens_of_the_condition_are_added_in_context_and_removed_at_the_end(block):
    model = scrambled(tiny_dit(block)).eval()
    x, timestep, cond = inputs()
    seen, _, features = seen_by_blocks(model, x, timestep, cond)
    tokens, embedding, _ = seen[0]
    assert torch.equal(tokens[:, :16], features.first)
    assert torch.equal(embedding, torch.stack([model.time(timestep), model.label(cond).sum(1)], dim=1))
    assert torch.equal(tokens[:, 16:], embedding[:, : 2 if block is InContextBlock else 0])
    assert torch.equal(features.last, model.norm(seen[-1][2][:, :16], features.temb))


def test_features_are_what_the_model_computed():
    model, (x, timestep, cond) = scrambled(tiny_dit()).eval(), inputs()
    raw, features = model(x, timestep, cond)
    patch = x[:, :, 2:4, 4:6].permute(0, 2, 3, 1).flatten(1)  # row 1, column 2 of 4x4
    torch.testing.assert_close(features.first[:, 6], model.patch(patch) + model.positions[6])
    torch.testing.assert_close(features.temb, model.time(timestep) + model.label(cond).sum(1))
    torch.testing.assert_close(features.text, model.label(cond))
    expected = model.head(features.last[:, 6]).unflatten(1, (2, 2))  # (B, row, column), one channel
    torch.testing.assert_close(raw[:, 0, 2:4, 4:6], expected)


def test_a_learned_variance_doubles_the_channels():
    raw, _ = tiny_dit(outputs=2)(*inputs())
    assert raw.shape == (3, 2, 8, 8)


def test_labels_are_dropped_in_training_alone():
    model, (x, timestep, cond) = scrambled(tiny_dit(label_dropout=1.0)), inputs()
    null = torch.full_like(cond, COND.symbols)
    trained, shown, unlabelled = (
        model.train()(x, timestep, cond)[0], model.eval()(x, timestep, cond)[0], model(x, timestep, null)[0]
    )  # fmt: skip
    torch.testing.assert_close(trained, unlabelled)
    assert not torch.allclose(shown, unlabelled)


@pytest.mark.parametrize(
    ("width", "num_heads", "patch_size", "complaint"),
    [
        (32, 2, 3, r"model.patch_size=3 does not divide the 8x8 state"),
        (32, 5, 2, r"model.width=32 does not divide over model.num_heads=5"),
        (30, 2, 2, r"model.width=30 is not a multiple of 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(width, num_heads, patch_size, complaint):
    with pytest.raises(ValueError, match=complaint):
        DiT(width, 1, num_heads, patch_size, 100.0, 0.1, AdaLNBlock, shape=SHAPE, cond=COND)
