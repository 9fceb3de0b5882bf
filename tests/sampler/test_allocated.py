"""Steps shared out by what the first call shows."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import path
from tpdm.registry import build
from tpdm.runtime.artifact import save_artifact
from tpdm.sampler.allocation import KIND, Allocation, cheapest, padded, pooled
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.step import ab2

COUNT = 12
NOISE = initial_noise(range(COUNT), (1, 2, 2))
COND = torch.arange(COUNT)[:, None] % 3
KNOWN_BY = {"denoiser": "5ca1ab1e" * 8, "guidance_scale": 2.0, "guidance": {"name": "constant"}}
MADE_BY = {"step": "ab2", **KNOWN_BY}
LEVELS = padded([torch.linspace(1, 0, n + 1) ** 1.5 for n in range(1, 6)])


class Told(IdealDenoiser):
    """Shows which of three kinds a sample is of."""

    def __call__(self, x, t, cond):
        p = super().__call__(x, t, cond)
        return p._replace(features=replace(p.features, temb=one_hot(cond[:, 0], 3).float()))


def denoiser(name="flow"):
    return Told(path(name), 0.3, 0.5)


def allocation():
    """The error of kind k after n steps is 10^(k - n), as far as it knows."""
    shown = denoiser()(NOISE, torch.ones(COUNT), COND).features
    width = pooled(shown).shape[1]
    weights = torch.zeros(width + 1, 5)
    weights[-4:-1] = torch.arange(3.0)[:, None] * torch.log(torch.tensor(10.0))
    weights[-1] = -torch.arange(1.0, 6) * torch.log(torch.tensor(10.0))
    mean = torch.linspace(-2, 2, width)
    weights[-1] += mean @ weights[:-1]
    made = Allocation(LEVELS, mean, weights, torch.empty(5, 0))
    return replace(made, expected=made.foreseen(shown))


@pytest.fixture
def folder(tmp_path):
    allocation().save(tmp_path / "allocation", MADE_BY)
    return tmp_path / "allocation"


def sampler(folder, known_by=KNOWN_BY, **budget):
    return build("sampler", {"name": "allocated", "path": str(folder)}, known_by=known_by, **budget)


@pytest.mark.parametrize("name", ["flow", "ddpm"])
def test_each_sample_follows_the_schedule_of_its_own_number_of_steps(folder, name):
    """Where a step costs as much as the one from 10^-1 to 10^-2 saves, kind 0 takes a step or two."""
    trajectory = sampler(folder, cost=0.05)(denoiser(name), NOISE, COND, range(COUNT))
    assert trajectory.nfe.tolist() == [2, 3, 4] * 4
    t_max = trajectory.t[0, 0]
    for t, n in zip(trajectory.t, trajectory.nfe.tolist(), strict=True):
        torch.testing.assert_close(t, (t_max * LEVELS[n - 1])[: len(t)])


@settings(max_examples=30, deadline=None)
@given(nfe=st.floats(1, 5), most=st.integers(1, 5))
def test_a_mean_is_met_and_a_cap_is_never_passed(nfe, most):
    """The mean is the greatest that a price leads to without passing the budget: samples of a kind go
    together, a third of them."""
    made = allocation()
    if nfe > most:
        with pytest.raises(ValueError, match=f"accepted: 1 to {most}"):
            made.price(nfe, most)
        return
    taken = made.run(denoiser(), NOISE, COND, ab2, made.price(nfe, most), most).nfe
    assert taken.max() <= most
    prices = torch.logspace(-6, 4, 200).tolist()
    means = [cheapest(made.expected[:most], price).double().mean().item() for price in prices]
    assert max(mean for mean in means if mean <= nfe) - 1e-6 < taken.double().mean() <= nfe
    assert (taken.sort().values == taken[COND[:, 0].argsort()]).all()  # the harder, the more


def test_more_calls_are_never_fewer_for_any_sample():
    made = allocation()
    calls = [made.run(denoiser(), NOISE, COND, ab2, made.price(n, 5), 5).nfe for n in (1, 2, 2.5, 3, 4, 5)]
    assert all((more >= fewer).all() for fewer, more in pairwise(calls))


def test_it_takes_the_step_that_it_was_learned_with_and_no_more_than_there_are(folder):
    few, many = sampler(folder, cost=0.0, max_nfe=3), sampler(folder, cost=0.0, max_nfe=50)
    assert few.step.func is many.step.func is ab2
    assert few(denoiser(), NOISE, COND, range(COUNT)).nfe.unique().tolist() == [3]
    assert many(denoiser(), NOISE, COND, range(COUNT)).nfe.unique().tolist() == [5]
    assert sampler(folder, nfe=4.0, max_nfe=50).most == 5


def test_a_mean_that_is_not_reached_is_told(tmp_path, recwarn):
    """A sixth of the samples is foreseen to gain by five steps; the others to lose by the fifth."""
    made = allocation()
    worse = made.expected[3] * torch.where(torch.arange(COUNT) % 6 == 0, 0.1, 2.0)
    replace(made, expected=torch.cat([made.expected[:4], worse[None]])).save(tmp_path, MADE_BY)
    with pytest.warns(UserWarning, match=r"^nfe=5 is not reached .* leads to is 4\.17$"):
        sampler(tmp_path, nfe=5.0)
    sampler(tmp_path, nfe=4.0), sampler(tmp_path, cost=0.0)
    assert len(recwarn) == 0


def test_a_mean_that_is_reached_without_the_cap_alone_is_told(tmp_path):
    """Nobody is foreseen to gain by a fourth step, and everybody by a fifth."""
    made = allocation()
    expected = [made.expected[:3], 2 * made.expected[2:3], made.expected[2:3] / 9]
    replace(made, expected=torch.cat(expected)).save(tmp_path, MADE_BY)
    with pytest.warns(UserWarning, match=r"^nfe=4 is not reached .* leads to is 3"):
        sampler(tmp_path, nfe=4.0, max_nfe=4)


def test_its_folder_keeps_all_of_it(folder):
    kept, made_by = Allocation.load(folder)
    assert made_by["step"] == "ab2"
    for key, value in vars(allocation()).items():
        assert torch.equal(getattr(kept, key), value)


def test_mistakes_are_told(folder):
    with pytest.raises(ValueError, match="nfe=N or cost=C; neither"):
        sampler(folder)
    with pytest.raises(ValueError, match="both of them"):
        sampler(folder, nfe=3.0, cost=0.1)
    with pytest.raises(ValueError, match="nfe=4 is no mean of 1 to 3 steps"):
        sampler(folder, nfe=4.0, max_nfe=3)
    other = IdealDenoiser(path("flow"), 0.3, 0.5)
    with pytest.raises(ValueError, match=r"sampler\.path holds an allocation that reads .* features"):
        sampler(folder, nfe=3.0)(other, NOISE, COND, range(COUNT))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"denoiser": "0ddba11" * 9},
            "a denoiser of sha256 5ca1ab1e5ca1, and here it is a denoiser of sha256 0dd",
        ),
        ({"guidance_scale": 3.0}, r"guidance_scale=2\.0, and here it is guidance_scale=3\.0"),
        (
            {"guidance_scale": 1.0, "guidance": None},
            r"guidance_scale=2\.0, and here it is guidance_scale=1\.0",
        ),
        ({"guidance": {"name": "rising"}}, "and here it is guidance={'name': 'rising'}"),
    ],
)
def test_one_that_was_learned_on_another_denoiser_is_refused(folder, changes, told):
    with pytest.raises(
        ValueError, match=rf"^sampler\.path=.*allocation was learned with .*{told}.*; accepted: "
    ):
        sampler(folder, KNOWN_BY | changes, nfe=3.0)


def test_where_no_run_is_drawn_from_none_fits(folder):
    with pytest.raises(
        ValueError, match=r"^sampler\.path=.* accepted with it: that run alone, sample run=FOLDER$"
    ):
        sampler(folder, None, nfe=3.0)


WHOLE, TENSORS = {**MADE_BY, "kind": KIND}, vars(allocation())
BROKEN = {
    "of another kind": (WHOLE | {"kind": "pool"}, TENSORS, "no allocation"),
    "from before": ({"kind": KIND, "step": "ab2"}, TENSORS, "without denoiser, guidance_scale, guidance"),
    "without a step": ({"kind": KIND, **KNOWN_BY}, TENSORS, "without step"),
    "of one tensor": (WHOLE, {"levels": LEVELS}, "without mean, weights, expected"),
    "of fewer schedules": (WHOLE, TENSORS | {"levels": LEVELS[:-1]}, "whose levels is .*of the size"),
    "of fewer features": (WHOLE, TENSORS | {"mean": torch.zeros(2)}, "whose weights is .*of the size"),
    "of fewer weights": (WHOLE, TENSORS | {"weights": torch.zeros(2, 5)}, "whose weights is .*of the size"),
    "of fewer errors": (WHOLE, TENSORS | {"expected": torch.ones(4, 12)}, "whose expected is .*of the size"),
    "of flat errors": (
        WHOLE,
        TENSORS | {"expected": torch.ones(5)},
        r"whose expected is .*of the size \(5,\)",
    ),
    "of a number": (WHOLE, TENSORS | {"levels": torch.tensor(1.0)}, r"whose levels is .*of the size \(\)"),
    "of whole numbers": (WHOLE, TENSORS | {"mean": torch.arange(9)}, "whose mean is torch.int64 of"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_folder_that_holds_no_whole_allocation_is_refused_in_one_line(broken, tmp_path):
    made_by, tensors, told = BROKEN[broken]
    save_artifact(tmp_path / "it", made_by, tensors)
    line = rf"^sampler\.path=\S+ holds .*{told}.*; accepted: the folder arena/allocator of a run"
    with pytest.raises(ValueError, match=line):
        sampler(tmp_path / "it", nfe=3.0)


@pytest.mark.parametrize(
    ("make", "seen"), [(lambda path: path.touch(), "is a file"), (lambda path: None, "is missing")]
)
def test_what_is_no_folder_is_told_with_what_is_accepted(make, seen, tmp_path):
    make(tmp_path / "it")
    with pytest.raises(
        ValueError, match=rf"^sampler\.path=\S+ {seen}; accepted: the folder arena/allocator of a run"
    ):
        sampler(tmp_path / "it", nfe=3.0)
