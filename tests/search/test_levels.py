import torch
from hypothesis import given
from hypothesis import strategies as st

from tpdm.search.levels import between, delayed, fall, logits_of, stretched, uniform

logits = st.lists(st.floats(-4, 4), min_size=1, max_size=28).map(
    lambda x: torch.tensor(x, dtype=torch.float64)
)


def falls(levels, num_steps):
    ended = levels.shape == (num_steps + 1,) and (levels[0], levels[-1]) == (1, 0)
    return ended and levels.dtype == torch.float32 and bool((levels.diff() < 0).all())


@given(logits)
def test_any_logits_are_a_schedule(logits):
    levels = fall(logits)
    assert falls(levels, len(logits))
    torch.testing.assert_close(-levels.double().diff(), logits.softmax(0), atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(fall(logits_of(levels)), levels)


@given(logits, st.integers(1, 40))
def test_a_shape_is_kept_with_any_number_of_steps(logits, num_steps):
    levels = fall(logits)
    longer = stretched(levels, num_steps)
    assert falls(longer, num_steps)
    doubled = stretched(levels, 2 * len(logits))
    assert torch.equal(doubled[::2], levels)
    assert torch.equal(stretched(levels, len(logits)), levels)


@given(logits)
def test_a_short_first_step_leaves_the_others_in_their_proportions(logits):
    levels = fall(logits)
    later = delayed(levels)
    assert falls(later, len(logits) + 1)
    torch.testing.assert_close(later[1:], 0.97 * levels)


def test_even_steps_stay_even():
    torch.testing.assert_close(stretched(uniform(5), 8), uniform(8))


def test_what_was_not_searched_lies_between_its_neighbours():
    table = between({2: uniform(2), 4: uniform(4) ** 2, 8: uniform(8)})
    assert list(table) == [2, 3, 4, 5, 6, 7, 8]
    assert all(falls(levels, n) for n, levels in table.items())
    torch.testing.assert_close(table[3], (uniform(3) + stretched(uniform(4) ** 2, 3)) / 2)
    torch.testing.assert_close(table[5], 0.75 * stretched(table[4], 5) + 0.25 * uniform(5))
