import pytest
import torch

from tests.search.problems import curved
from tpdm.search import tolerance
from tpdm.search.tolerance import bisected, controlled, sampler, tried


@pytest.mark.parametrize("mean_nfe", [4.5, 8.0])
def test_a_mean_is_met_and_the_best_first_step_taken(mean_nfe, monkeypatch):
    monkeypatch.setattr(tolerance, "FIRST", (0.05, 0.2))
    problem = curved()
    found = controlled(problem, mean_nfe)
    nfe, error = tried(problem, found.tolerance, found.first)
    assert nfe == pytest.approx(mean_nfe, rel=0.02)
    assert nfe <= mean_nfe
    for first in tolerance.FIRST:
        _, other, other_error = bisected(problem, mean_nfe, first)
        assert error <= other_error or other < 0.98 * mean_nfe


def test_it_is_found_without_a_look_at_the_ends():
    problem = curved()
    before = bisected(problem, 6.0, 0.1)[0]
    problem.target = torch.zeros_like(problem.target)
    assert bisected(problem, 6.0, 0.1)[0] == before
    assert sampler(problem, before, 0.1).step is problem.step


def test_calls_that_no_tolerance_takes_are_told():
    with pytest.raises(ValueError, match=r"takes no 1\.5 calls on the mean, but"):
        controlled(curved(), 1.5)
