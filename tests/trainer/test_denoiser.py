from functools import partial, partialmethod

import pytest
import torch
from PIL import Image
from torch import nn

from tests.runs import last_checkpoint, same
from tests.scheduler.paths import path
from tests.tiny import COND, SHAPE, tiny_dit
from tests.trainer.parts import make_stage
from tpdm.codec.identity import IdentityCodec
from tpdm.codec.labels import Labels
from tpdm.data.source import Endless
from tpdm.density import uniform
from tpdm.optimizer import adam
from tpdm.parallel import ddp
from tpdm.trainer.denoiser import DenoiserTrainer
from tpdm.trainer.stage import HALVES


class Halves(Endless):
    """Two images, one dark and one light, named by their label."""

    shape, cond = SHAPE, COND

    def batch(self, n, generator):
        label = torch.randint(2, (n, 1), generator=generator)
        return (2.0 * label - 1)[..., None, None].expand(n, *SHAPE), label.expand(n, COND.slots)


CHOICES = {
    "max_steps": 30, "batch_size": 32, "accumulate": 1, "clip_norm": 1.0, "ema_decay": 0.9,
    "gradient_checkpointing": False, "compile": False,
    "report_every": 10, "preview_every": 1000, "save_every": 1000,
}  # fmt: skip


def trainer_of(
    folder,
    max_steps=30,
    lr=5e-3,
    density=uniform,
    mixed_precision="no",
    parallel=ddp,
    data=None,
    backbone=None,
    **choices,
):
    return DenoiserTrainer(
        **CHOICES | choices | {"max_steps": max_steps},
        backbone=backbone or tiny_dit(),
        scheduler=path("flow"),
        data=data or Halves(),
        codec=IdentityCodec(),
        condition=Labels(),
        density=density,
        optimizer=partial(adam, lr=lr, betas=(0.9, 0.99), schedule="constant", warmup=0, hold=1.0, final=1.0),
        parallel=parallel,
        stage=make_stage(folder, "denoiser", mixed_precision=mixed_precision),
        preview=lambda step, weights: Image.new("L", (1, 1)),
    )


def loss_of(trainer, weights=None):
    """On fresh data; at the start the answer is 0, and a velocity of eps - x0 has mean square 2."""
    if weights is not None:
        trainer.backbone.load_state_dict(weights)
    trainer.backbone.eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return trainer.loss(*Halves().batch(512, generator), generator).item()


def test_it_learns_two_images(tmp_path):
    trainer = trainer_of(tmp_path)
    assert loss_of(trainer) == pytest.approx(2, abs=0.1)
    averaged = trainer.fit()
    assert loss_of(trainer) < 0.6
    assert loss_of(trainer, averaged) < 0.6


def test_times_are_warped_positions(tmp_path):
    """The flow path's shift of 3 takes the position .5 to the time .75."""
    trainer = trainer_of(tmp_path, density=lambda n, generator: torch.full((n,), 0.5))
    seen = []
    trainer.backbone.register_forward_hook(lambda m, args, out: seen.append(args[1]))
    trainer.update(0)
    torch.testing.assert_close(seen[0], torch.full((32,), 750.0))


def test_accumulated_parts_are_one_update_of_their_mean(tmp_path):
    """Two parts of 16: the gradient is the mean of theirs, before one step of the optimiser."""
    trainer = trainer_of(tmp_path, accumulate=2)
    generator, losses = trainer.stage.generator(0), []
    trainer.backbone.eval()
    for k in range(2):
        x0, cond = Halves().at(trainer.batches.place.later(k))
        losses.append(trainer.loss(x0, cond, generator))
    mean = torch.stack(losses).mean()
    gradients = torch.autograd.grad(mean, list(trainer.backbone.parameters()), allow_unused=True)
    expected = torch.stack([g.norm() for g in gradients if g is not None]).norm()
    loss, norm = trainer.update(0)
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(loss, mean.detach())


def test_it_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path):
    straight = trainer_of(tmp_path / "straight", 4).fit()
    trainer_of(tmp_path / "stopped", 2).fit()
    resumed = trainer_of(tmp_path / "stopped", 4).fit()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_takes_the_same_steps_but_for_rounding(precision, tmp_path):
    exact, half = (trainer_of(tmp_path, mixed_precision=name) for name in ("no", precision))
    seen = []
    half.backbone.patch.register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    for step in range(3):
        (loss, norm), (expected, expected_norm) = half.update(step), exact.update(step)
        torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
        torch.testing.assert_close(norm, expected_norm, rtol=0.1, atol=0)
    assert set(seen) == {HALVES[precision]}
    assert all(p.dtype == torch.float32 for p in half.backbone.parameters())


def test_a_gradient_too_large_for_float16_is_scaled_down_and_its_step_left_out(tmp_path):
    trainer = trainer_of(tmp_path, mixed_precision="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = [p.detach().clone() for p in trainer.backbone.parameters()]
    trainer.update(0)
    assert same(before, list(trainer.backbone.parameters()))
    assert trainer.scaler.get_scale() == 2.0**39


def test_a_gradient_that_no_scale_can_save_is_named(tmp_path):
    trainer = trainer_of(tmp_path, mixed_precision="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    trainer.backbone.head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(FloatingPointError, match=r"the denoiser's gradient norm is (nan|inf) at step 0"):
        trainer.update(0)


def test_in_float16_it_goes_on_with_the_scale_it_had(tmp_path):
    straight = trainer_of(tmp_path / "straight", 4, mixed_precision="fp16").fit()
    trainer_of(tmp_path / "stopped", 2, mixed_precision="fp16").fit()
    resumed = trainer_of(tmp_path / "stopped", 4, mixed_precision="fp16")
    resumed.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    assert same(resumed.fit(), straight)
    assert resumed.scaler.get_scale() == 2.0**16


@pytest.mark.parametrize("choice", ["compile", "gradient_checkpointing"])
def test_how_it_is_computed_may_change_when_it_goes_on(choice, tmp_path, monkeypatch):
    """Checkpoints, averages and weights have the same names, and the numbers but for rounding."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    straight = trainer_of(tmp_path / "straight", 4).fit()
    trainer_of(tmp_path / "a", 2, **{choice: True}).fit()
    assert last_checkpoint(tmp_path / "a", "denoiser")["ema"].keys() == straight.keys()
    resumed = trainer_of(tmp_path / "a", 3)
    resumed.fit()
    again = trainer_of(tmp_path / "a", 4, **{choice: True})
    torch.testing.assert_close(again.fit(), straight, rtol=1e-4, atol=1e-5)
    assert again.backbone.state_dict().keys() == resumed.backbone.state_dict().keys()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_computing_activations_twice_changes_no_bit(precision, tmp_path):
    """Runs that differ in this alone may share a denoiser."""
    once = trainer_of(tmp_path / "once", 3, mixed_precision=precision)
    twice = trainer_of(tmp_path / "twice", 3, mixed_precision=precision, gradient_checkpointing=True)
    assert same(once.fit(), twice.fit())
    assert same(once.optimizer.state_dict(), twice.optimizer.state_dict())


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"trainer.batch_size=32 does not divide .*trainer.accumulate=3"):
        trainer_of(tmp_path, accumulate=3)
