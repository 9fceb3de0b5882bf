import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.sampler.allocation import allocate


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), mean=st.floats(1, 6))
def test_no_way_to_share_out_so_many_steps_has_a_smaller_error(seed, mean):
    """A price's allocation is the best of all with its own mean: against random ones, and against the same
    number for all, between whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    errors = torch.rand(6, 30, generator=generator).double() ** 3
    steps, _ = allocate(errors, mean)
    spent = steps.double().mean().item()
    assert spent <= mean + 1e-9
    reached = errors.gather(0, steps[None] - 1).mean()
    for _ in range(20):
        other = torch.randint(1, 7, (30,), generator=generator)
        if other.double().mean() <= spent:
            assert errors.gather(0, other[None] - 1).mean() >= reached - 1e-9
    low = int(spent)
    over = spent - low
    same = (1 - over) * errors[low - 1].mean() + (over * errors[low].mean() if over else 0)
    assert reached <= same + 1e-9


def test_a_price_finds_what_brute_force_finds():
    """Two samples and four steps: every allocation is tried."""
    errors = torch.tensor([[1.0, 9.0], [0.9, 4.0], [0.85, 1.0], [0.84, 0.5]])
    steps, _ = allocate(errors, 2.0)
    ways = [(a, b) for a in range(1, 5) for b in range(1, 5) if a + b <= 4]
    best = min(ways, key=lambda way: errors[way[0] - 1, 0] + errors[way[1] - 1, 1])
    assert tuple(steps.tolist()) == best == (1, 3)


def test_a_large_budget_gives_each_its_best():
    errors = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    assert allocate(errors, 3.0)[0].tolist() == [3, 1]
