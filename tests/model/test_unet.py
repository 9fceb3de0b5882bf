import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from tests.tiny import scrambled
from tpdm.model.unet import SHOWN, UNet
from tpdm.types import CondSpec, DataShape, Text, TextSpec

LABELS, CAPTIONS = CondSpec(slots=2, symbols=3), TextSpec(pooled_width=6, token_width=5, max_tokens=3)


def tiny(cond=LABELS, side=8, outputs=1, dropout=0.0, **changes):
    torch.manual_seed(0)
    sizes = {"base_width": 8, "multipliers": (1, 2), "depth": 1, "num_heads": 2, "width": 16}
    shape = DataShape(3, side, side)
    sizes |= {"max_frequency": 50.0, "condition_dropout": dropout}
    return UNet(**sizes | changes, shape=shape, cond=cond, outputs=outputs)


def inputs(count=3, side=8):
    return torch.randn(count, 3, side, side), torch.rand(count) * 1000, torch.randint(3, (count, 2))


def captions(count=3):
    mask = torch.tensor([[1, 1, 0]] * count, dtype=torch.bool)
    return Text(torch.randn(count, 6), torch.randn(count, 3, 5), mask)


def test_the_size_of_stable_diffusion_1():
    """Its unet/ has 859,520,964 parameters; the projections of captions and of their sum are ours."""
    with torch.device("meta"):
        shape, cond = DataShape(4, 64, 64), TextSpec(768, 768, 77)
        model = UNet(320, (1, 2, 4, 4), 2, 8, 768, 1000.0, 0.1, shape=shape, cond=cond)
    beside_the_time = sum(p.numel() for p in model.net.class_embedding.parameters())
    assert sum(p.numel() for p in model.net.parameters()) - beside_the_time == 859_520_964


@pytest.mark.parametrize("side", [8, 16])
def test_features_are_what_the_network_computed(side):
    model, (x, timestep, cond) = scrambled(tiny(side=side, outputs=2)).eval(), inputs(side=side)
    raw, features = model(x, timestep, cond)
    assert raw.shape == (3, 6, side, side)
    assert vars(SHOWN) == {}  # nothing is kept alive
    torch.testing.assert_close(features.first, model.net.conv_in(x).flatten(2).transpose(1, 2))
    last = features.last.transpose(1, 2).unflatten(2, (side, side))
    torch.testing.assert_close(raw, model.net.conv_out(torch.nn.functional.silu(last)))
    told = get_timestep_embedding(timestep * 0.05, 8, flip_sin_to_cos=True, downscale_freq_shift=0)
    whole = model.net.class_embedding(model.context.label(cond).sum(1))
    torch.testing.assert_close(features.temb, model.net.time_embedding(told) + whole)
    torch.testing.assert_close(features.text, model.context.label(cond))


def test_a_copy_shows_its_own_features():
    model, args = scrambled(tiny()).eval(), inputs()
    copied = scrambled(copy.deepcopy(model), seed=1)
    assert not torch.equal(copied(*args)[1].last, model(*args)[1].last)


def test_threads_do_not_see_each_others_features():
    model, args = scrambled(tiny()).eval(), inputs()
    others = [tuple(value[k : k + 1] for value in args) for k in range(3)]
    alone = [model(*other)[1].last for other in others]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda k: model(*others[k % 3])[1].last, range(60)))
    assert all(torch.equal(last, alone[k % 3]) for k, last in enumerate(together))


def test_only_tokens_that_are_there_are_read():
    model, (x, timestep, _), text = scrambled(tiny(CAPTIONS)).eval(), inputs(), captions()
    raw = model(x, timestep, text)[0]

    def changed(token):
        tokens = text.tokens.clone()
        tokens[:, token] += 10
        return model(x, timestep, Text(text.pooled, tokens, text.mask))[0]

    torch.testing.assert_close(changed(2), raw)
    assert not torch.allclose(changed(1), raw)


def test_captions_are_dropped_in_training_alone():
    model, (x, timestep, _), text = scrambled(tiny(CAPTIONS, dropout=1.0)), inputs(), captions()
    none = Text.nothing(CAPTIONS).repeat_interleave(3)
    dropped, shown = model.train()(x, timestep, text)[0], model.eval()(x, timestep, text)[0]
    torch.testing.assert_close(dropped, model(x, timestep, none)[0])
    assert not torch.allclose(shown, dropped)


def test_it_starts_with_an_answer_of_zero():
    raw, _ = tiny()(*inputs())
    assert torch.equal(raw, torch.zeros(3, 3, 8, 8))


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"num_heads": 3}, r"model.base_width=8 does not divide over model.num_heads=3"),
        ({"side": 7}, r"model.multipliers has 2 stages, but 7x7 does not halve 1 times"),
        ({"multipliers": ()}, r"model.multipliers=\[\] leaves no stage"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, complaint):
    with pytest.raises(ValueError, match=complaint):
        tiny(**sizes)
