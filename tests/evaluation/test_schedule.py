import torch
from hypothesis import given
from hypothesis import strategies as st

from tpdm.evaluation.schedule import mean_schedule


@given(st.floats(0.5, 1, width=32), st.integers(1, 700), st.integers(1, 6))
def test_a_mean_of_schedules_begins_where_all_of_them_do(t_max, count, num_steps):
    """To the bit, on paths that begin below 1 too: levels are a grid only where the first of them is 1."""
    t = torch.tensor([t_max, 0.3, 0.1, 0.0]).expand(count, -1)
    mean = mean_schedule(t, torch.full((count,), 3), num_steps)
    assert (mean / t_max).tolist()[0] == 1
    assert mean[-1] == 0
    assert (mean.diff() < 0).all()
