import pytest
import torch

from tests.tiny import scrambled
from tpdm.model.diffit_unet import DiffiTResBlock, DiffiTUNet
from tpdm.types import CondSpec, DataShape

COND = CondSpec(slots=2, symbols=3)


def tiny(side=16, outputs=1, **changes):
    torch.manual_seed(0)
    sizes = {
        "base_width": 8, "width": 16, "num_heads": 2, "resolution": None, "multipliers": (1, 2, 2),
        "depth": 1, "window": 8, "max_frequency": 100.0, "label_dropout": 0.1,
    }  # fmt: skip
    shape = DataShape(3, side, side)
    return DiffiTUNet(**sizes | changes, shape=shape, cond=COND, outputs=outputs)


def inputs(side=16, count=2):
    return torch.randn(count, 3, side, side), torch.rand(count) * 1000, torch.randint(3, (count, 2))


@pytest.mark.parametrize("side", [32, 64])
def test_a_step_of_training_moves_every_weight(side):
    model = scrambled(tiny(side))
    raw, _ = model(*inputs(side))
    raw.square().mean().backward()
    assert raw.shape == (2, 3, side, side)
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_block_is_the_equation():
    """x + MLP-block(TMSA-block(conv(swish(GN(x))))), window by window."""
    block = scrambled(DiffiTResBlock(8, 16, 2, 16, (4, 4)))
    x, cond = torch.randn(2, 8, 8, 12), torch.randn(2, 16)
    y = block.conv(torch.nn.functional.silu(block.norm(x)))
    tokens = y[:, :, 4:8, 8:12].flatten(2).transpose(1, 2)  # the last window
    expected = x[:, :, 4:8, 8:12] + block.block(tokens, cond).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(block(x, cond)[:, :, 4:8, 8:12], expected)


def test_features_are_what_the_model_computed():
    model, (x, timestep, cond) = scrambled(tiny()).eval(), inputs()
    raw, features = model(x, timestep, cond)
    torch.testing.assert_close(features.first, model.stem(x).flatten(2).transpose(1, 2))
    torch.testing.assert_close(features.temb, model.time(timestep) + model.label(cond).sum(1))
    last = features.last.transpose(1, 2).unflatten(2, (16, 16))
    torch.testing.assert_close(raw, model.head(torch.nn.functional.silu(last)))


def test_far_pixels_meet_through_the_stages_below():
    """Windows end at 8 pixels, but the bottom of 4x4 sees all of them."""
    model, (x, timestep, cond) = scrambled(tiny()).eval(), inputs()
    moved = x.clone()
    moved[:, :, 0, 0] += 10
    assert not torch.allclose(
        model(moved, timestep, cond)[0][:, :, -1, -1], model(x, timestep, cond)[0][:, :, -1, -1]
    )


def test_it_starts_with_an_answer_of_zero():
    raw, _ = tiny(outputs=2)(*inputs())
    assert torch.equal(raw, torch.zeros(2, 6, 16, 16))


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"num_heads": 3}, r"model.width=16 does not divide over model.num_heads=3"),
        ({"resolution": 32}, r"model.resolution=32 is not that of the 16x16 data"),
        ({"side": 18}, r"model.multipliers has 3 stages, but 18x18 does not halve 2 times"),
        ({"window": 6}, r"model.window=6 does not divide the side of 16"),
        ({"multipliers": ()}, r"model.multipliers=\[\] leaves no stage"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, complaint):
    with pytest.raises(ValueError, match=complaint):
        tiny(**sizes)
