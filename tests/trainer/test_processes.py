"""Two processes train what one would train on the doubled batch, whole or in shards."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from tests.processes import together
from tests.runs import last_checkpoint, same
from tests.tiny import COND, SHAPE, scrambled, tiny_dit
from tests.trainer.test_denoiser import trainer_of
from tpdm.data.loader import Loader
from tpdm.data.source import Endless
from tpdm.parallel import ddp, fsdp
from tpdm.runtime.sharding import whole

SHARDS = partial(fsdp, reshard_after_forward=True)
BATCH, STEPS = 16, 4


class Stream(Endless):
    """Images that are functions of their place in the stream of all ranks."""

    shape, cond = SHAPE, COND

    def at(self, place):
        rows = [self.batch(1, torch.Generator().manual_seed(k)) for k in place.span()]
        return tuple(map(torch.cat, zip(*rows, strict=True)))

    def batch(self, n, generator):
        x0 = torch.randn(n, *SHAPE, generator=generator).clamp(-1, 1)
        return x0, torch.randint(COND.symbols, (n, COND.slots), generator=generator)


def stream_trainer(folder, **choices):
    """Batches of 16 over all processes, labels never dropped, weights that are nowhere zero."""
    backbone = scrambled(tiny_dit(label_dropout=0.0))
    choices = {"batch_size": BATCH, "max_steps": STEPS, "report_every": 1, **choices}
    return trainer_of(folder, data=Stream(), backbone=backbone, **choices)


def gradients(trainer):
    """The loss of the first update, and its gradients without clipping."""
    trainer.clip_norm = torch.inf
    loss, _ = trainer.differentiate(0)
    loss = trainer.accelerator.reduce(loss, "mean")
    return {"loss": loss} | {name: whole(p.grad) for name, p in trainer.backbone.named_parameters()}


def drawn(trainer, rank, accumulate):
    """(x0, eps, t, cond) of the first update as one of two ranks draws them."""
    seen = []
    place = SimpleNamespace(process_index=rank, device=torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.stage, "accelerator", place)
        patch.setattr(trainer.denoiser, "loss", lambda *parts: seen.append(parts) or torch.zeros(1))
        batches = Loader(Stream(), BATCH // (2 * accumulate), 0, rank=rank, world_size=2)
        generator = trainer.stage.generator(0)
        for _ in range(accumulate):
            trainer.loss(*next(batches), generator)
    return seen


@pytest.mark.parametrize("parallel", [ddp, SHARDS], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_is_that_of_one_process_with_the_doubled_batch(parallel, accumulate, tmp_path):
    choices = {"accumulate": accumulate, "parallel": parallel}
    one, other = together(lambda: gradients(stream_trainer(tmp_path, **choices)), tmp_path / "two")
    assert same(one, other)

    alone = stream_trainer(tmp_path)
    parts = [part for rank in range(2) for part in drawn(alone, rank, accumulate)]
    x0, eps, t, cond = map(torch.cat, zip(*parts, strict=True))
    assert len(x0) == BATCH
    assert len({*t.tolist()}) == BATCH
    loss = alone.denoiser.loss(x0, eps, t, cond).mean()
    loss.backward()
    expected = {"loss": loss.detach()} | {name: p.grad for name, p in alone.backbone.named_parameters()}
    torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-6)


def train(folder, **choices):
    """Everything that a whole run leaves in a process."""
    trainer = stream_trainer(folder, **choices)
    seen, update = [], trainer.update
    trainer.update = lambda step: seen.append(update(step)) or seen[-1]
    averaged = trainer.fit()
    return {
        "losses": torch.tensor(seen),
        "averaged": averaged,
        "raw": whole(trainer.backbone.state_dict()),
        "held": sum(local(p).numel() for p in trainer.backbone.parameters()),
    }


def local(parameter):
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


def determined(weights):
    """All but the biases of keys: a softmax does not see them, so that Adam follows their rounding errors."""
    return {name: without_keys(w) if name.endswith("qkv.bias") else w for name, w in weights.items()}


def without_keys(bias):
    q, _, v = bias.chunk(3)
    return torch.cat([q, v])


def test_shards_train_what_whole_weights_train_and_either_goes_on_with_the_other(tmp_path):
    def work():
        spread = {"ddp": ddp, "fsdp": SHARDS}
        found = {name: train(tmp_path / name, parallel=parallel) for name, parallel in spread.items()}
        for name in spread:  # and two steps more, the other way
            other = next(parallel for key, parallel in spread.items() if key != name)
            found[f"{name}, then the other"] = train(tmp_path / name, parallel=other, max_steps=STEPS + 2)
        return found

    one, other = together(work, tmp_path / "two")
    for name in one:
        assert same(one[name]["averaged"], other[name]["averaged"])
        assert same(one[name]["raw"], other[name]["raw"])
    whole_weights, shards = one["ddp"], one["fsdp"]
    assert one["fsdp"]["held"] < 0.6 * one["ddp"]["held"]
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    close(shards["losses"], whole_weights["losses"])
    close(*map(determined, (shards["averaged"], whole_weights["averaged"])))
    close(*map(determined, (shards["raw"], whole_weights["raw"])))
    assert not same(shards["raw"], shards["averaged"])
    crossed, back = one["ddp, then the other"], one["fsdp, then the other"]
    assert len(crossed["losses"]) == len(back["losses"]) == 2
    close(crossed["losses"], back["losses"])
    close(*map(determined, (crossed["averaged"], back["averaged"])))


def test_a_checkpoint_of_shards_is_one_of_a_single_process(tmp_path):
    """Names, sizes and kinds of everything in it, the moments of the optimiser among them."""
    train(tmp_path / "alone")
    together(lambda: train(tmp_path / "shards", parallel=SHARDS), tmp_path / "two")
    alone, shards = (last_checkpoint(tmp_path / name, "denoiser") for name in ("alone", "shards"))
    assert outline(shards) == outline(alone)


def outline(state):
    if isinstance(state, dict):
        return {
            key: outline(value) for key, value in state.items() if key not in ("world_size", "batch_size")
        }
    return (type(state), getattr(state, "shape", None))
