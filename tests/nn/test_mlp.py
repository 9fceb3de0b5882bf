from functools import partial

import pytest
import torch
from timm.layers import Mlp as TimmMlp
from torch import nn

from tpdm.nn.mlp import Mlp

TANH = partial(nn.GELU, approximate="tanh")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_it_is_timms_in_weights_values_and_randomness(dropout):
    ours, theirs = (
        both(lambda: Mlp(8, 24, dropout)),
        both(lambda: TimmMlp(8, 24, act_layer=TANH, drop=dropout)),
    )
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def both(make):
    """Weights as initialised, and an answer in training, from the same seed."""
    torch.manual_seed(0)
    network = make()
    return {**network.state_dict(), "answer": network(torch.randn(3, 5, 8))}
