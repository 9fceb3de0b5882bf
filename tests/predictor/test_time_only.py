import torch

from tests.predictor.features import SPEC, random_features
from tests.tiny import scrambled
from tpdm.predictor.time_only import TimeOnlyPredictor


def test_it_sees_t_and_nothing_else():
    model = scrambled(TimeOnlyPredictor(16, 8, (1.5, 0.5), 4.0, 1.0, features=SPEC))
    t = torch.tensor([0.02, 0.5, 1.0])
    first, other = (model(random_features(3, seed), t).concentration1 for seed in (0, 1))
    assert torch.equal(first, other)
    assert first.unique().numel() == 3
