"""What every search holds to, and what each one is known to find."""

import math
import re
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.search.problems import curved, networked
from tests.search.test_levels import falls
from tpdm.registry import ConfigError, build, names
from tpdm.sampler.step import ab2, ddim
from tpdm.search import least_squares
from tpdm.search.brute_force import brute_force
from tpdm.search.dynamic import fine, gits, oss, shortest_path
from tpdm.search.ld3 import ld3
from tpdm.search.least_squares import Minimum, cheapest, refined, searched, slopes, table
from tpdm.search.levels import between, fall, uniform
from tpdm.search.problem import Problem
from tpdm.search.sharpness import sharpness

SEARCHES = {
    "least_squares": {"iterations": 2},
    "gits": {"candidates": 24, "power": 1.5},
    "oss": {"candidates": 16, "power": 1.5},
    "ld3": {"iterations": 20, "batch_size": 12, "lr": 0.1},
    "brute_force": {"candidates": 12},
    "sharpness": {"candidates": 32, "power": 1.5, "order": 0.5},
}


def search(name, problem, num_steps):
    return build("search", {"name": name, **SEARCHES[name]})(problem, num_steps)


def test_every_search_is_tested():
    assert SEARCHES.keys() == set(names("search"))


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(("path", "num_steps"), [("flow", 1), ("ddpm", 2), ("flow", 4)])
def test_levels_fall_from_one_to_zero_and_come_again(name, path, num_steps):
    problem = curved(path)
    levels = search(name, problem, num_steps)
    assert falls(levels, num_steps)
    assert torch.equal(levels, search(name, problem, num_steps))


@pytest.mark.parametrize("name", ["least_squares", "oss", "ld3"])
def test_a_search_that_takes_the_steps_themselves_beats_even_ones(name):
    problem = curved()
    assert problem.cost(search(name, problem, 4)) < 0.8 * problem.cost(uniform(4))


# --- least squares


@pytest.mark.parametrize("step", [ddim, ab2])
@pytest.mark.parametrize("path", ["flow", "ddpm_cosine"])
def test_two_steps_are_the_best_that_a_scan_finds(path, step):
    problem = curved(path, step)
    scanned = min(problem.cost([1.0, level / 200, 0.0]).item() for level in range(1, 200))
    found = table(problem, 2, 10)[2]
    assert problem.cost(found) <= scanned * 1.001


def test_three_steps_are_the_best_that_a_scan_finds():
    problem = curved()
    pairs = combinations([level / 30 for level in range(29, 0, -1)], 2)
    scanned = min(problem.cost([1.0, *pair, 0.0]).item() for pair in pairs)
    assert problem.cost(table(problem, 3, 12)[3]) <= scanned


def test_slopes_are_the_derivatives_of_the_ends():
    problem = networked()
    levels = torch.tensor([1.0, 0.8, 0.45, 0.15, 0.0])
    exact = torch.autograd.functional.jacobian(lambda x: problem.follow(x)[-1].x.flatten(), levels)
    with torch.no_grad():
        found = slopes(problem, levels, problem.follow(levels))
    scale = exact[:, 1:-1].square().mean().sqrt()
    torch.testing.assert_close(found / scale, exact.T[1:-1] / scale, atol=0.05, rtol=0.05)


def test_more_steps_cost_less_and_no_start_is_better():
    problem = curved()
    found = table(problem, 6, 8)
    costs = [problem.cost(levels).item() for levels in found.values()]
    assert list(found) == list(range(1, 7))
    assert costs == sorted(costs, reverse=True)
    with torch.no_grad():
        for n in (3, 5):
            others = [refined(problem, uniform(n) ** shape, 20).cost for shape in (0.7, 2.0)]
            assert costs[n - 1] <= 1.01 * min(others)


def test_between_valleys_all_samples_decide(monkeypatch):
    problem, flat = curved(count=60), uniform(3)
    other = torch.tensor([1.0, 0.9, 0.5, 0.0])
    monkeypatch.setattr(least_squares, "refined", lambda few, start, _: Minimum(start, float(start is flat)))
    best = min([flat, other], key=lambda levels: problem.cost(levels).item())
    assert torch.equal(cheapest(problem, [flat, other], 1, 10).levels, best)
    assert torch.equal(cheapest(problem, [other, flat], 1, 10).levels, best)
    near = other + torch.tensor([0.0, 0.01, 0.0, 0.0])
    assert torch.equal(cheapest(problem, [near, other], 1, 10).levels, near)  # of one valley, as the few say


@pytest.mark.parametrize(("costs", "gap"), [((2.0, 3.0), 0.5), ((3.0, 2.0), 0.5), ((2.0, math.inf), None)])
def test_the_gap_is_by_how_much_the_second_of_two_starts_is_worse(monkeypatch, costs, gap):
    problem, starts = curved(count=60), [uniform(3), uniform(3) ** 1.3]
    ends = {id(start): cost for start, cost in zip(starts, costs, strict=True)}
    monkeypatch.setattr(least_squares, "refined", lambda few, start, _: Minimum(start, ends[id(start)]))
    assert cheapest(problem, starts, 1, 10).gap == gap


def test_every_number_of_steps_is_searched_also_beyond_those_that_are_searched_both_ways(monkeypatch):
    monkeypatch.setattr(least_squares, "EACH", 3)
    problem = curved()
    found = table(problem, 7, 4)  # 2, 3, and 7 both ways
    begun = between({n: found[n] for n in (3, 7)})
    assert list(found) == list(range(1, 8))
    for n in (4, 5, 6):
        assert problem.cost(found[n]) < problem.cost(begun[n])
    costs = [problem.cost(levels).item() for levels in found.values()]
    assert costs == sorted(costs, reverse=True)


def test_the_few_that_a_search_walks_with_stand_for_all_samples():
    """The first of these weigh nothing, and would find every schedule as good as another."""
    problem = curved(count=300)
    first = torch.arange(300) < least_squares.DOWN
    weighing = problem.on(slice(None), torch.where(first, 0.0, 300 / (300 - least_squares.DOWN)))
    found, best = (table(of, 3, 8)[3] for of in (weighing, problem[least_squares.DOWN :]))
    assert weighing.cost(found) == pytest.approx(weighing.cost(best).item(), rel=0.02)
    assert weighing.cost(best) < 0.9 * weighing.cost(uniform(3))


def test_nothing_that_is_worse_than_even_levels_is_found(monkeypatch):
    bad = lambda few, start, _: Minimum(start**9, 0.0)  # noqa: E731
    monkeypatch.setattr(least_squares, "refined", bad)
    for n, levels in table(curved(), 4, 1).items():
        assert torch.equal(levels, uniform(n))


def test_a_valley_that_is_found_on_the_way_down_tells_its_own_gap(monkeypatch):
    """Upwards all starts of 2 steps agree; downwards one comes from 3 steps, and ends far below them."""
    calls = []

    def ends(few, start, _):
        calls.append(len(start) - 1)
        down = calls.count(3) > 4 and len(start) == 3
        from_above = down and calls.count(2) > 5
        return Minimum(start, 1.0 if from_above else 2.0)

    monkeypatch.setattr(least_squares, "refined", ends)
    assert searched(curved(), 3, 1)[2].gap == 1.0


def test_a_denoiser_that_answers_nonsense_has_no_best_schedule():
    problem = curved()
    problem.target = torch.full_like(problem.target, torch.nan)
    with pytest.raises(FloatingPointError, match="no schedule of 2 steps"):
        table(problem, 2, 3)
    with pytest.raises(FloatingPointError, match="search=ld3"):
        ld3(problem, 2, 2, 24, 0.1)


# --- dynamic programming

squares = st.integers(2, 7).flatmap(
    lambda size: st.lists(st.floats(0, 1, width=32), min_size=size**2, max_size=size**2).map(
        lambda entries: torch.tensor(entries).reshape(size, size)
    )
)


@given(squares, st.data())
def test_the_shortest_path_is_the_cheapest_of_all(square, data):
    cost = torch.where(torch.ones_like(square).triu(1) > 0, square, torch.inf)
    last = len(cost) - 1
    num_steps = data.draw(st.integers(1, last))
    price = lambda path: sum(cost[i, j].item() for i, j in pairwise(path))  # noqa: E731
    ways = [(0, *inner, last) for inner in combinations(range(1, last), num_steps - 1)]
    found = shortest_path(cost, num_steps)
    assert len(found) == num_steps + 1
    assert (found[0], found[-1]) == (0, last)
    assert price(found) == pytest.approx(min(map(price, ways)))


def test_gits_is_the_cheapest_chain_of_first_order_jumps():
    problem = curved()
    levels = fine(3, 8, 1.5)
    walks = problem.follow(levels)

    def price(chain):
        total = 0.0
        for i, j in pairwise(chain):
            there = ddim(problem.path, walks[i + 1].past, None, problem.times(levels[j]), None)
            total += (there - walks[j].x).flatten(1).norm(dim=1).mean().item()
        return total

    best = min(((0, *inner, 8) for inner in combinations(range(1, 8), 2)), key=price)
    assert torch.equal(gits(problem, 3, 8, 1.5), levels[list(best)])


def test_oss_keeps_the_nearest_way_to_each_candidate():
    """With two steps there is nothing to forget, and it is the cheapest chain of all."""
    problem = curved()
    levels = fine(2, 16, 1.5)
    teacher = problem.follow(levels)[-1].x
    distances = {
        k: (problem.follow(levels[[0, k, 16]])[-1].x - teacher).square().mean().item() for k in range(1, 16)
    }
    assert torch.equal(oss(problem, 2, 16, 1.5), levels[[0, min(distances, key=distances.__getitem__), 16]])


@pytest.mark.parametrize("component", [gits, oss])
def test_steps_need_as_many_candidates(component):
    problem = curved()
    assert torch.equal(component(problem, 5, 5, 2.0), uniform(5) ** 2)
    with pytest.raises(ValueError, match=r"candidates=4 are too few for 5 steps; use 5 or more"):
        component(problem, 5, 4, 2.0)


@pytest.mark.parametrize("power", [1e30, 1e-30, 200])
def test_candidates_that_float32_does_not_tell_apart_are_refused(power):
    with pytest.raises(ValueError, match=rf"power={re.escape(str(power))} makes 8 candidates of which"):
        fine(2, 8, power)
    for name in ("gits", "oss", "sharpness"):
        with pytest.raises(ConfigError, match=r"power=.* is not accepted; accepted: float >= 0.1"):
            build("search", {"name": name, **SEARCHES[name], "power": power})


# --- gradients


def test_the_gradient_through_the_solver_is_that_of_the_cost():
    problem, logits = networked(), torch.tensor([0.3, -0.2, 0.5, 0.0])
    exact = torch.autograd.functional.jacobian(lambda x: problem.cost(fall(x).unbind()), logits)
    with torch.no_grad():
        costs = [problem.cost(fall(logits + sign * 2e-2 * row)) for row in torch.eye(4) for sign in (1, -1)]
    numeric = torch.stack(costs).reshape(4, 2) @ torch.tensor([1.0, -1.0]) / 4e-2
    torch.testing.assert_close(exact, numeric, rtol=0.05, atol=0.02 * exact.abs().max().item())


def test_ld3_comes_near_the_best():
    problem = curved()
    best = problem.cost(table(problem, 3, 10)[3])
    assert problem.cost(ld3(problem, 3, 120, 12, 0.1)) < 1.1 * best


def test_of_all_schedules_that_ld3_meets_the_best_is_found(monkeypatch):
    """Its steps are so long that it leaves a good one again."""
    problem, cost, met = curved(), Problem.cost, {}

    def seen(of, levels):
        found = cost(of, levels)
        if not torch.is_grad_enabled():
            met[tuple(levels.tolist())] = found.item()
        return found

    monkeypatch.setattr(Problem, "cost", seen)
    found = tuple(ld3(problem, 3, 8, 24, 3.0).tolist())
    assert met[found] == min(met.values()) < list(met.values())[-1]


def test_ld3_learns_from_all_samples():
    """Here the first of its two batches weighs nothing, and would leave even steps as they are."""
    problem = curved()
    second = problem.on(slice(None), 2 * (torch.arange(24) >= 12).float())
    assert second.cost(ld3(second, 4, 20, 12, 0.1)) < 0.8 * second.cost(uniform(4))


# --- sharpness


def test_of_order_zero_all_is_equally_sharp():
    torch.testing.assert_close(sharpness(curved(), 8, 400, 1.5, 0.0), uniform(8), atol=1e-6, rtol=0)


def test_sharpness_gives_euler_steps_equal_errors():
    """Whose local error is h^2 / 2 |d2x / dl2|."""
    problem = curved(step=ddim)
    levels = sharpness(problem, 8, 400, 1.5, 0.5)
    walks = curved(step=ab2).follow(fine(1, 1600, 1.5))
    at = fine(1, 1600, 1.5)
    nearest = [(at - level).abs().argmin().item() for level in levels]
    errors = []
    for i, j in pairwise(nearest):
        there = ddim(problem.path, walks[i + 1].past, None, problem.times(at[j]), None)
        errors.append((there - walks[j].x).square().mean().sqrt())
    errors = torch.stack(errors)
    even = uniform(8)
    assert errors.std() / errors.mean() < 0.35
    assert not torch.allclose(levels, even, atol=0.02)


# --- brute force


def test_brute_force_is_the_best_of_its_grid():
    problem = curved()
    pairs = [torch.tensor([1.0, a / 12, b / 12, 0.0]) for a, b in combinations(range(11, 0, -1), 2)]
    found = search("brute_force", problem, 3)
    torch.testing.assert_close(problem.cost(found), min(problem.cost(levels) for levels in pairs))


@pytest.mark.parametrize("num_steps", [13, 6])
def test_a_grid_that_is_too_coarse_or_too_fine_is_refused(num_steps):
    candidates = 12 if num_steps == 13 else 60
    with pytest.raises(ValueError, match=rf"candidates={candidates} has .* of {num_steps} steps"):
        brute_force(curved(), num_steps, candidates=candidates)
