import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn

from tpdm.nn.embed import LabelEmbedding, LogTimeEmbedding, TimeEmbedding, fourier
from tpdm.types import CondSpec

COND = CondSpec(slots=3, symbols=4)


def bare(embedding):
    """The embedding without its MLP: the Fourier features alone."""
    embedding.mlp = nn.Sequential(nn.Linear(embedding.fourier_width, embedding.fourier_width, bias=False))
    nn.init.eye_(embedding.mlp[0].weight)
    return embedding


def test_fourier_features_are_those_of_diffusers():
    timestep = torch.linspace(0, 999, 40)
    theirs = get_timestep_embedding(timestep, 64, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(fourier(timestep, 64, max_frequency=1.0), theirs, atol=1e-5, rtol=0)


def test_an_odd_width_lacks_the_last_sine():
    value = torch.rand(5)
    assert torch.equal(fourier(value, 7, 10.0), fourier(value, 8, 10.0)[:, :7])


def test_a_thousand_radians_are_the_published_embedding():
    timestep = torch.linspace(0, 999, 40)
    theirs = get_timestep_embedding(timestep, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(bare(TimeEmbedding(8, 1000.0))(timestep), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("max_frequency", [30.0, 1000.0])
def test_no_feature_of_time_moves_faster_than_the_chosen_frequency(max_frequency):
    """In radians per unit of t = timestep / 1000; the fastest does move as fast."""
    embedding, t = bare(TimeEmbedding(8, max_frequency)), torch.linspace(0, 1, 500)
    _, speed = torch.func.jvp(lambda t: embedding(1000 * t), (t,), (torch.ones_like(t),))
    assert speed.abs().max().item() == pytest.approx(max_frequency, rel=1e-2)


def test_log_time_tells_equal_ratios_apart_equally_well():
    features = bare(LogTimeEmbedding(8, fourier_width=32))(torch.tensor([1.0, 0.8, 0.0125, 0.01]))
    high, low = features[0] - features[1], features[2] - features[3]
    torch.testing.assert_close(high.norm(), low.norm(), atol=1e-3, rtol=0)
    assert high.norm() > 1


def test_labels_have_a_table_for_each_slot():
    embedding = LabelEmbedding(COND, 8, dropout=0.0)
    every = embedding(
        torch.arange(COND.symbols + 1)[:, None].expand(-1, COND.slots)
    )  # (symbols + 1, slots, D)
    assert torch.equal(every.transpose(0, 1).flatten(0, 1), embedding.table.weight)


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_at_the_given_rate_and_all_of_a_sample_together(dropout):
    torch.manual_seed(0)
    embedding = LabelEmbedding(COND, 8, dropout).train()
    cond = torch.randint(COND.symbols, (5000, COND.slots))
    null = embedding.table(torch.full_like(cond, COND.symbols) + embedding.offset)
    dropped = (embedding(cond) == null).all(-1)  # (B, slots)
    assert torch.equal(dropped.all(1), dropped.any(1))
    assert dropped.float().mean().item() == pytest.approx(dropout, abs=0.02)


def test_labels_are_never_dropped_outside_training():
    embedding, cond = (
        LabelEmbedding(COND, 8, dropout=1.0).eval(),
        torch.randint(COND.symbols, (50, COND.slots)),
    )
    assert torch.equal(embedding(cond), embedding.table(cond + embedding.offset))
