import torch
from torch.nn.functional import gelu

from tpdm.nn.activation import TanhGELU, sigmoid_gelu


def test_both_ways_to_write_it_are_torchs_in_value_and_slope():
    x = torch.linspace(-30, 30, 2001, dtype=torch.float64, requires_grad=True)
    expected = gelu(x, approximate="tanh")
    for found in (sigmoid_gelu(x), TanhGELU()(x)):
        torch.testing.assert_close(found, expected)
        slopes = [torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for y in (found, expected)]
        torch.testing.assert_close(*slopes)


def test_a_compiler_meets_the_sigmoid():
    seen = []

    def backend(graph, inputs):
        seen.extend(node.target for node in graph.graph.nodes)
        return graph.forward

    x = torch.randn(7)
    compiled = torch.compile(TanhGELU(), backend=backend)
    torch.testing.assert_close(compiled(x), gelu(x, approximate="tanh"))
    assert torch.sigmoid in seen
    torch._dynamo.reset()
