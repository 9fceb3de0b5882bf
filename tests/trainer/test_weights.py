import pytest
import torch

from tests.tiny import conditions, scrambled, tiny_dit
from tests.trainer.test_denoiser import loss_of, trainer_of
from tpdm.trainer.weights import HalfWeights, OwnWeights, weights_of


def batch(n=64):
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(2, n, 1, 8, 8, generator=generator)
    return x, 1000 * torch.rand(n, generator=generator), conditions(n), target


def gradients(network, precision, parts=1):
    """Of a regression, in each parameter of the network that learns."""
    weights = weights_of(network, precision)
    for x, timestep, cond, target in zip(*(each.chunk(parts) for each in batch()), strict=True):
        weights.follow()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            raw, _ = weights.running(x, timestep, cond)
        ((raw.float() - target).square().mean() / parts).backward()
        weights.collect()
    return [p.grad for p in network.parameters()]


@pytest.mark.parametrize("precision", ["bf16", "bf16_weights"])
def test_gradients_in_half_precision_are_near_those_of_float32(precision):
    network = scrambled(tiny_dit(label_dropout=0.0))
    exact = gradients(network, "no")
    network.zero_grad()
    found = gradients(network, precision)
    assert all(grad.dtype == torch.float32 for grad in found)
    exact, found = (torch.cat([grad.flatten() for grad in each]) for each in (exact, found))
    assert not torch.equal(exact, found)
    assert (exact - found).norm() < 0.02 * exact.norm()


def test_parts_of_a_batch_are_summed_in_float32():
    network = scrambled(tiny_dit(label_dropout=0.0))
    whole = [grad.clone() for grad in gradients(network, "bf16_weights")]
    network.zero_grad()
    parts = gradients(network, "bf16_weights", parts=8)
    whole, parts = (torch.cat([grad.flatten() for grad in each]) for each in (whole, parts))
    assert (whole - parts).norm() < 0.02 * whole.norm()
    assert not torch.equal(parts, parts.bfloat16().float())


def test_updates_too_small_for_a_copy_are_not_lost():
    """bfloat16 cannot hold 1 + 2^-10; sixteen of them are 1 + 2^-6, which it can."""
    network = torch.nn.Linear(1, 1, bias=False)
    weights = HalfWeights(network)
    network.weight.data.fill_(1.0)
    for _ in range(16):
        weights.follow()
        weights.running.weight.grad = torch.full((1, 1), -(2.0**-10)).bfloat16()
        weights.collect()
        network.weight.data.sub_(network.weight.grad)
        network.weight.grad = None
    weights.follow()
    assert weights.running.weight.item() == 1 + 2**-6


def test_other_precisions_run_with_the_weights_that_learn():
    network = tiny_dit()
    assert all(isinstance(weights_of(network, p), OwnWeights) for p in ("no", "bf16", "fp16"))
    assert weights_of(network, "bf16").running is network


def test_a_trainer_keeps_float32_alone(tmp_path):
    trainer = trainer_of(tmp_path, mixed_precision="bf16_weights", accumulate=2)
    assert loss_of_copies(trainer) == pytest.approx(2, abs=0.1)
    averaged = trainer.fit()
    assert loss_of_copies(trainer) < 0.6
    kept = [*averaged.values(), *trainer.backbone.state_dict().values()]
    assert all(x.dtype == torch.float32 for x in kept)


def loss_of_copies(trainer):
    trainer.weights.follow()
    trainer.weights.running.eval()
    loss = loss_of(trainer)
    trainer.weights.running.train()
    return loss


def test_it_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path):
    how = {"mixed_precision": "bf16_weights"}
    straight = trainer_of(tmp_path / "straight", 4, **how).fit()
    trainer_of(tmp_path / "stopped", 2, **how).fit()
    resumed = trainer_of(tmp_path / "stopped", 4, **how).fit()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_compiled_copy_learns_the_same(tmp_path, monkeypatch):
    """Compiled without a compiler behind it: the blocks of the copy, and not of the master, are run."""
    seen = []
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda block: (seen.append(block), compiled(block, backend="eager"))
    )
    trainer = trainer_of(tmp_path, 2, mixed_precision="bf16_weights", compile=True)
    assert [id(block) for block in seen] == [id(block) for block in trainer.weights.running.blocks]
    found = trainer.fit()
    expected = trainer_of(tmp_path / "b", 2, mixed_precision="bf16_weights").fit()
    assert all(torch.allclose(found[name], expected[name], atol=2e-3) for name in found)
