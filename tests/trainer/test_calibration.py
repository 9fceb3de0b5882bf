import math
import re
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Beta

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import path
from tests.tiny import conditions
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.step import ddim
from tpdm.trainer.calibration import SEEDS, calibrated, held_out_nfe
from tpdm.types import NARROWEST, CostRange, DataShape

COSTS = CostRange(1e-6, 1e-2)


def test_steep_places_are_measured_more_closely():
    """Around 1e-4 the mean falls from 12 to 4 within a tenth of a decade; everywhere else it hardly does."""
    asked = []

    def mean_nfe(cost):
        asked.append(cost)
        return 8 - 4 * math.tanh(30 * math.log10(cost / 1e-4))

    budget = calibrated(COSTS, mean_nfe, silent=True)
    assert len(asked) < 33
    for nfe in (5, 6.5, 8, 9.5, 11):
        assert mean_nfe(budget.cost_of(nfe)) == pytest.approx(nfe, rel=0.02)


@pytest.mark.parametrize("low", [1e-7, 0.003, 0.7])
def test_the_narrowest_range_is_calibrated_whatever_it_leads_to(low):
    """And what is narrower is no range: its costs would be too close to be measured apart."""
    narrow = CostRange(low, low * NARROWEST)
    assert calibrated(narrow, lambda cost: 5.0, True).nfe == [5.0]
    assert calibrated(narrow, lambda cost: 3.0 if cost > narrow.middle else 7.0, True).nfe == [7.0, 3.0]
    steep = calibrated(narrow, lambda cost: 20 * (low / cost) ** 300, True)  # every gap is worth halving
    assert (steep.nfe[0], steep.nfe[-1]) == pytest.approx((20, 20 / NARROWEST**300))
    with pytest.raises(ValueError, match=r"reward\.cost\.low=.* at least 1\.01 times as much"):
        CostRange(low, low * 1.0099)


def test_it_gives_up_on_a_jump_and_on_a_constant():
    jump = calibrated(COSTS, lambda cost: 3.0 if cost > 3e-5 else 7.0, silent=True)
    assert jump.nfe == [7.0, 3.0]
    assert calibrated(COSTS, lambda cost: 5.0, silent=True).cost_of(5.0) == pytest.approx(1e-4)


def test_it_tells_how_far_it_is(capsys):
    calibrated(COSTS, lambda cost: 5.0, silent=True)
    assert capsys.readouterr().err == ""
    calibrated(COSTS, lambda cost: 5.0, silent=False)
    assert re.search(r"^calibration: 9/9 100%.* nfe=5$", capsys.readouterr().err, re.MULTILINE)


class Constant:
    """Every step leads from t to the same share of it, which falls with the cost."""

    def __call__(self, features, t, cost):
        ratio = 0.9 - 0.6 * COSTS.share(cost)
        return Beta(1 + 1e3 * ratio, 1 + 1e3 * (1 - ratio))


def accelerator(rank, ranks):
    """One of several processes; what it sums over them is told."""
    reduced = []

    def reduce(value, how):
        reduced.append((value, how))
        return value

    return SimpleNamespace(
        process_index=rank, num_processes=ranks, device=torch.device("cpu"), reduce=reduce, reduced=reduced
    )


def measured(rank=0, ranks=1, count=7, drawn=None):
    def sampler(predictor):
        made = AdaptiveSampler(ddim, 60, 0.01, 1e-3, 0.999, "mode", "data", predictor=predictor)

        def sample(denoiser, noise, cond, seeds):
            if drawn is not None:
                drawn.extend(seeds)
            return made(denoiser, noise, cond, seeds)

        return sample

    parts = (Constant(), IdealDenoiser(path("flow")), conditions(count), DataShape(1, 2, 2), 3)
    process = accelerator(rank, ranks)
    return held_out_nfe(sampler, *parts, process), process


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_mean_of_a_known_schedule(share):
    mean_nfe, _ = measured()
    steps = math.ceil(math.log(0.01) / math.log(0.9 - 0.6 * share))
    assert mean_nfe(COSTS.at(torch.tensor(share)).item()) == steps


def test_processes_share_the_conditions_out():
    counts = []
    for rank in range(2):
        mean_nfe, process = measured(rank, 2)
        mean_nfe(1e-4)
        ((both, how),) = process.reduced
        counts.append(both[1].item())
        assert how == "sum"
    assert counts == [4, 3]


def test_its_noises_are_those_of_nobody_else():
    """Training's noises and the evaluation's are counted from seeds far below; processes share these."""
    drawn = []
    for rank in range(2):
        measured(rank, 2, drawn=drawn)[0](1e-4)
    assert sorted(drawn) == [SEEDS + k for k in range(7)]
    assert SEEDS == 2**29
