import torch

from tpdm.nn.adaln import AdaptiveNorm, Modulation, PlainNorm, modulate


def test_modulate_scales_around_one_and_then_shifts():
    x = torch.tensor([[[1.0, 2.0]]])
    shift, scale = torch.tensor([[10.0, 20.0]]), torch.tensor([[0.5, -1.0]])
    assert torch.equal(modulate(x, shift, scale), torch.tensor([[[11.5, 20.0]]]))


def test_modulation_regresses_its_chunks_from_the_activated_condition():
    modulation, cond = Modulation(4, chunks=3, cond_width=6), torch.randn(2, 6)
    chunks = modulation(cond)
    assert [chunk.shape for chunk in chunks] == [(2, 4)] * 3
    expected = torch.nn.functional.silu(cond) @ modulation.proj.weight.T + modulation.proj.bias
    torch.testing.assert_close(torch.cat(chunks, dim=1), expected)


def test_adaptive_norm_gives_each_token_the_mean_and_spread_that_the_condition_names():
    norm = AdaptiveNorm(8)
    with torch.no_grad():
        norm.modulation.proj.weight.zero_()
        norm.modulation.proj.bias.copy_(torch.tensor([3.0] * 8 + [1.0] * 8))  # shift 3, scale 1 + 1
    x = norm(5 + 7 * torch.randn(4, 6, 8), torch.randn(4, 8))
    torch.testing.assert_close(x.mean(-1), torch.full((4, 6), 3.0))
    torch.testing.assert_close(x.var(-1, correction=0), torch.full((4, 6), 4.0))


def test_plain_norm_ignores_the_condition():
    x = torch.randn(2, 3, 8)
    norm = PlainNorm(8)
    assert torch.equal(norm(x, torch.randn(2, 8)), norm(x, torch.randn(2, 8)))
