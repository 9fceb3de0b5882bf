"""The watch over a run's rewards, on series whose slopes are known."""

import math

import pytest
import torch
from scipy.stats import linregress

from tpdm.trainer.watch import RewardHackedError, Watch, slope


def seen(watch, trained, held_out):
    for step, pair in enumerate(zip(trained, held_out, strict=True)):
        watch.compare(step, *pair)


def noisy(rate, count=20, seed=0):
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return (rate * torch.arange(count) + noise).tolist()


def test_the_slope_is_that_of_a_regression():
    values = noisy(0.3)
    fit = linregress(range(20), values)
    assert slope(torch.tensor(values)) == pytest.approx(fit.slope / fit.stderr, rel=1e-4)
    assert slope(torch.ones(5)) == 0


def test_a_rise_with_a_fall_stops_the_run_and_says_where():
    with pytest.raises(RewardHackedError, match=r"last 20 updates up to step 19.*guard=warn goes on"):
        seen(Watch(0.5, 20, "stop"), noisy(0.5), noisy(-0.5, seed=1))


@pytest.mark.parametrize(
    ("trained", "held_out"), [(0.5, 0.5), (-0.5, -0.5), (0.0, -0.5), (0.5, 0.0), (-1, 1)]
)
def test_anything_else_goes_on(trained, held_out):
    seen(Watch(0.5, 20, "stop"), noisy(trained), noisy(held_out, seed=1))


def test_a_window_that_is_not_full_says_nothing():
    seen(Watch(0.5, 21, "stop"), noisy(0.5), noisy(-0.5, seed=1))


def test_a_warning_comes_once_a_window(capsys):
    seen(Watch(0.5, 20, "warn"), noisy(0.5, 59), noisy(-0.5, 59, seed=1))
    assert capsys.readouterr().err.count("tpdm: warning: the trained reward rose while") == 2


def test_groups_left_out_are_counted_and_too_many_are_a_fault():
    watch = Watch(0.25, 20, "warn")
    assert watch.count(torch.tensor([True, False, False, False])) is None
    assert watch.count(torch.tensor([True, True, False, False])).startswith(
        "reward is nan for an image in 2 of 4"
    )
    assert watch.left_out == 3


def test_it_is_found_again_after_a_stop():
    straight, stopped, resumed = (Watch(0.5, 20, "stop") for _ in range(3))
    seen(stopped, noisy(0.5)[:10], noisy(-0.5, seed=1)[:10])
    resumed.load_state_dict(stopped.state_dict())
    for watch in (straight, resumed):
        begin = 0 if watch is straight else 10
        with pytest.raises(RewardHackedError):
            seen(watch, noisy(0.5)[begin:], noisy(-0.5, seed=1)[begin:])
    assert resumed.history == straight.history
    assert not any(math.isnan(value) for pair in straight.history for value in pair)
