import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from tests.processes import together
from tests.runs import LOOPS, MODEL, command, refused, same
from tests.trainer.parts import make_stage
from tests.trainer.test_denoiser import trainer_of
from tpdm import train
from tpdm.optimizer import adam
from tpdm.trainer.lr_find import RangeTest, range_test, rising, suggested

ADAM = partial(adam, lr=1.0, betas=(0.9, 0.99), schedule="cosine", warmup=5, hold=0.0, final=0.0)


class Bowl:
    """sum_k L_k w_k^2 / 2 by plain gradient descent, stable below 2 / max L; with a floor, and some noise."""

    curvature = torch.tensor([0.1, 1.0, 10.0])

    def __init__(self, folder, lr_min=1e-5, lr_max=10.0, max_steps=60, seed=0):
        self.backbone, self.stage, self.max_steps = nn.Linear(3, 1, bias=False), make_stage(folder), max_steps
        nn.init.ones_(self.backbone.weight)
        make = rising(lambda parameters, steps: (torch.optim.SGD(parameters, lr=1.0), None), lr_min, lr_max)
        self.optimizer, self.lr = make(self.backbone.parameters(), max_steps)
        self.random = torch.Generator().manual_seed(seed)

    def differentiate(self, step):
        self.optimizer.zero_grad()
        energy = (self.curvature * self.backbone.weight.square()).sum() / 2
        energy.backward()
        noise = 1 + 0.02 * torch.randn((), generator=self.random)
        return (energy.detach() + 0.5) * noise, self.backbone.weight.grad.norm()

    def descend(self):
        self.optimizer.step()
        self.lr.step()


@pytest.mark.parametrize("seed", range(5))
def test_the_suggestion_is_below_the_largest_stable_rate_by_less_than_an_order(seed, tmp_path):
    bowl = Bowl(tmp_path, seed=seed)
    found = range_test(bowl)
    stable = 2 / bowl.curvature.max().item()
    assert stable / 10 < found.suggestion < stable
    assert stable < found.lr[-1] < 10  # it stopped where the loss had left its best
    assert torch.equal(bowl.backbone.weight, torch.ones(1, 3))


def test_the_rate_grows_by_one_factor_whatever_the_optimiser_was_told():
    weight = nn.Parameter(torch.zeros(1))
    optimizer, schedule = rising(ADAM, 1e-4, 1e-1)([weight], 4)
    seen = []
    for _ in range(4):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])


def test_the_suggestion_is_where_a_known_curve_is_steepest():
    """A logistic fall from 2 to 1, steepest in its logarithm at x = -3 + log10(2) / k."""
    x = np.linspace(-6, 0, 601)
    losses = 1 + 1 / (1 + np.exp(6 * (x + 3)))
    steepest = x[np.gradient(np.log(losses), x).argmin()]
    assert np.log10(suggested(10**x, losses)) == pytest.approx(steepest, abs=0.1)


def test_a_loss_that_only_rises_suggests_nothing():
    with pytest.raises(ValueError, match=r"the loss fell at no rate from 1e-06 on; .*lr_find.lr_min"):
        suggested(np.logspace(-6, 0, 20), np.linspace(1, 2, 20))


@pytest.mark.parametrize("count", [0, 2, 9])
def test_too_few_rates_suggest_nothing(count):
    lrs, losses = np.logspace(-6, 0, 10), np.linspace(2, 1, 10)
    assert suggested(lrs, losses) in lrs
    with pytest.raises(ValueError, match=rf"only {count} rates had .*10 are needed; .*lr_find.lr_max"):
        suggested(lrs[:count], losses[:count])


def test_the_plot_marks_the_suggestion():
    lr, loss = list(np.logspace(-6, 0, 20)), list(np.linspace(2, 1, 20))
    left, right = (np.asarray(RangeTest(lr, loss, at).plot()) for at in (1e-5, 1e-1))
    assert (left != right).any()


def test_processes_agree_on_the_loss_and_on_the_end(tmp_path):
    def work():
        trainer = trainer_of(tmp_path, max_steps=40)
        trainer.optimizer, trainer.lr = rising(ADAM, 1e-4, 1e3)(trainer.backbone.parameters(), 40)
        before = {name: x.clone() for name, x in trainer.backbone.state_dict().items()}
        found = range_test(trainer)
        return {"untouched": same(trainer.backbone.state_dict(), before), **found._asdict()}

    one, other = together(work, tmp_path / "two")
    assert one == other
    assert one["untouched"]
    assert len(one["loss"]) < 40


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    argv = (*MODEL, *LOOPS, "stage=lr_find", "lr_find.num_steps=30", f"runs={folder}", "run_name=a")
    return folder / "a", argv, command(train.main, *argv)


def test_the_command_leaves_a_curve_and_a_suggestion_and_nothing_trained(searched):
    run, argv, ended = searched
    assert ended.status == 0, ended.err
    found = json.loads((run / "lr_find.json").read_text())
    assert ended.out.splitlines()[-1].startswith(f"optimizer.lr={found['suggestion']:.2g} is suggested; ")
    assert found["lr"][0] == pytest.approx(1e-6)
    assert len(found["lr"]) == len(found["loss"]) <= 30
    darkest, brightest = Image.open(run / "lr_find.png").convert("L").getextrema()
    assert darkest < brightest
    events = EventAccumulator(str(run / "tensorboard" / "lr_find")).Reload()
    assert events.Tags()["images"] == ["lr_find"]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(found["loss"])
    assert not (run / "denoiser").exists()
    assert not list(run.glob("checkpoints/*"))
    again = command(train.main, *argv)
    assert again.out.splitlines()[-1] == ended.out.splitlines()[-1]
    assert not again.err


def test_a_denoiser_that_nothing_would_be_made_of_is_refused(tmp_path):
    argv = ("stage=lr_find", "denoiser=a", f"runs={tmp_path / 'runs'}")
    refused(
        command(train.main, *argv), "denoiser=a is for a whole run; leave it out, or leave out stage=lr_find"
    )
    assert not (tmp_path / "runs").exists()


def test_rates_that_do_not_rise_are_refused_before_there_is_a_run(tmp_path):
    argv = ("stage=lr_find", "lr_find.lr_min=1.0", "lr_find.lr_max=1e-3", f"runs={tmp_path / 'runs'}")
    ended = command(train.main, *argv)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "tpdm: error: lr_find.lr_max=0.001 is not above lr_find.lr_min=1\n"
    assert not (tmp_path / "runs").exists()
