"""Schedules are searched by small moves of their times, which mean something where the network is smooth."""

import pytest
import torch

from tpdm.arena.sets import Source
from tpdm.competing import runner_of
from tpdm.evaluation.schedule import along
from tpdm.finished import FinishedRun
from tpdm.nn.embed import TimeEmbedding
from tpdm.search.levels import uniform

MOVED = 0.003


@pytest.fixture
def roughness(finished):
    """By how much an error changes, beside by its slope, where times move; in the mean over ten moves."""
    run = FinishedRun.open(str(finished), torch.device("cpu"), ema=True)
    runner = runner_of(run)
    source = Source(run.data(), run.encoded, tuple(run.assembly.shape), 32, torch.device("cpu"))
    problems, _ = source.draw(9, 32)

    @torch.no_grad()
    def measured(max_frequency):
        for module in run.denoiser.backbone.modules():
            if isinstance(module, TimeEmbedding):
                module.max_frequency = max_frequency

        def drawn(levels):
            walk = along(runner.denoiser, runner.step, runner.t_max * levels, problems.seeds)
            return walk(problems.noise, problems.cond, problems.seeds).x0

        end, generator = drawn(uniform(40)), torch.Generator().manual_seed(0)
        errors = lambda levels: (drawn(levels) - end).square().mean().item()  # noqa: E731
        still, moved = errors(uniform(8)), []
        for _ in range(10):
            move = torch.zeros(9)
            move[1:-1] = MOVED * (2 * torch.randint(0, 2, (7,), generator=generator) - 1)
            both = errors(uniform(8) + move) + errors(uniform(8) - move)
            moved.append(abs(both / 2 / still - 1))
        return sum(moved) / len(moved)

    return measured


def test_told_of_time_slowly_a_network_is_ten_times_as_smooth_in_it(roughness):
    """As in the published DiT, a thousand radians drown what a better schedule gains."""
    assert 10 * roughness(100.0) < roughness(1000.0)
