import torch
from torch import nn

from tests.runs import same
from tests.tiny import SHAPE, conditions, scrambled, tiny_dit
from tpdm.nn.blocks import blocks, compile_blocks, recompute


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(4, 4)])
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, x, scale=1.0):
        self.calls += 1
        return self.dropout(self.inner[0](x).sin()) * scale


def test_blocks_are_the_outermost_lists():
    network = nn.ModuleDict({"a": nn.ModuleList([Block(), Block()]), "b": nn.Sequential(nn.Linear(1, 1))})
    assert blocks(network) == list(network["a"])
    dit = tiny_dit()
    assert blocks(dit) == list(dit.blocks)


def pulled(block, x):
    """The answer and every gradient, under one dropout mask."""
    torch.manual_seed(0)
    answer = block(x, scale=2.0)
    block.zero_grad()
    answer.square().sum().backward()
    return [answer.detach(), *(p.grad.clone() for p in block.parameters())]


def test_a_recomputed_block_runs_twice_with_one_dropout_mask_and_gradients_bit_for_bit():
    block, x = Block(), torch.randn(8, 4, requires_grad=True)
    expected = pulled(block, x)
    names = list(block.state_dict())
    recompute(block)
    block.calls = 0
    assert same(pulled(block, x), expected)
    assert block.calls == 2
    assert list(block.state_dict()) == names


def test_nothing_is_recomputed_where_nothing_is_learned():
    block = Block()
    recompute(block)
    with torch.no_grad():
        block(torch.ones(1, 4))
    assert block.calls == 1


def test_compiled_blocks_answer_the_same_under_their_own_names():
    """By the compiler that users get."""
    dit = scrambled(tiny_dit()).eval()
    inputs = torch.randn(2, *SHAPE), torch.tensor([10.0, 900.0]), conditions(2)
    expected, names = dit(*inputs)[0], list(dit.state_dict())
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compile_blocks(dit)
    with torch.no_grad():
        torch.testing.assert_close(dit(*inputs)[0], expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # two blocks share it
    assert list(dit.state_dict()) == names
