import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tpdm.runtime.ema import EMA


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.floats(-10, 10), min_size=1, max_size=30), decay=st.floats(0, 1))
def test_the_shadow_is_the_closed_form(values, decay):
    """shadow_n = sum_k (1 - d_k) prod_{j>k} d_j x_k + prod_j d_j x_init."""
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 3.0)
    ema = EMA(module, decay)
    d = torch.tensor([min(decay, (1 + k) / (10 + k)) for k in range(len(values))], dtype=torch.float64)
    for step, value in enumerate(values):
        nn.init.constant_(module.weight, value)
        ema.update(module, step)
    after = torch.cat([d.flip(0).cumprod(0).flip(0), torch.ones(1)])
    expected = after[0] * 3.0 + ((1 - d) * after[1:] * torch.tensor(values, dtype=torch.float64)).sum()
    torch.testing.assert_close(ema.shadow["weight"].double().squeeze(), expected, rtol=1e-5, atol=1e-5)


def test_the_shadow_is_float32_and_of_what_is_trained():
    module = nn.Linear(4, 4).bfloat16()
    module.bias.requires_grad_(False)
    ema = EMA(module, 0.99)
    assert {name: x.dtype for name, x in ema.shadow.items()} == {"weight": torch.float32}
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    ema.update(module, 10**6)
    torch.testing.assert_close(ema.shadow["weight"], before.float().lerp(module.weight.float(), 0.01))


def test_it_resumes_bit_for_bit():
    module = nn.Linear(3, 3)
    one, other = EMA(module, 0.9), EMA(module, 0.9)
    with torch.no_grad():
        module.weight.normal_()
    one.update(module, 0)
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(other.shadow[name], x) for name, x in one.shadow.items())
    with torch.no_grad():
        module.weight.normal_()
    one.update(module, 1)
    assert not torch.equal(one.shadow["weight"], other.shadow["weight"])
    with pytest.raises(ValueError, match=r"2\.weight"):
        EMA(nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), 0.9).load_state_dict(
            EMA(nn.Sequential(nn.Linear(1, 1)), 0.9).state_dict() | {"2.bias": torch.zeros(1)}
        )
