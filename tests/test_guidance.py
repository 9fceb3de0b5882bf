"""What guidance weighs where, against its formulas on a denoiser with a known answer."""

import math

import pytest
import torch

from tpdm.denoiser import Guided, guided
from tpdm.guidance import Constant, PowerCosine
from tpdm.scheduler.flow import Flow
from tpdm.types import Features, Prediction

NULL = torch.tensor([[9]])


class Answer:
    """x0 is the label, eps its negative, in every channel; the null label 9 answers 0."""

    scheduler = Flow(1.0, "velocity")

    def __call__(self, x, t, cond):
        value = torch.where(cond == NULL, 0, cond)[..., None, None].float().expand_as(x)
        tokens = value.flatten(2).transpose(1, 2)
        return Prediction(value, -value, Features(tokens, tokens, tokens[:, 0], None, (1, 1)))


def ask(guidance, t, scale=3.0):
    x, cond = torch.zeros(len(t), 4, 1, 1), torch.full((len(t), 1), 2)
    return Guided(Answer(), scale, guidance, null_cond=NULL)(x, torch.tensor(t), cond)


def test_a_constant_scale_multiplies_the_difference_everywhere():
    p = ask(Constant(None), [0.0, 0.4, 1.0])
    torch.testing.assert_close(p.x0, torch.full((3, 4, 1, 1), 6.0))
    torch.testing.assert_close(p.eps, torch.full((3, 4, 1, 1), -6.0))
    torch.testing.assert_close(p.features.first, torch.full((3, 1, 4), 6.0))


def test_guidance_on_the_first_channels_leaves_the_others_conditioned():
    p = ask(Constant(3), [0.5])
    assert p.x0.flatten().tolist() == [6, 6, 6, 2]
    assert p.eps.flatten().tolist() == [-6, -6, -6, -2]


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_power_cosine_rises_from_1_at_the_noise_to_the_scale_at_the_data(power):
    weight = PowerCosine(power, None).weight(3.0, torch.tensor([1000.0, 600.0, 0.0]))
    between = 1 + 2 * (1 - math.cos(math.pi * 0.4**power)) / 2
    torch.testing.assert_close(weight, torch.tensor([1.0, between, 3.0]))


def test_each_row_has_the_weight_of_its_own_time():
    p = ask(PowerCosine(4.0, None), [1.0, 0.0])
    torch.testing.assert_close(p.x0[:, 0].flatten(), torch.tensor([2.0, 6.0]))


def test_a_learned_variance_stays_that_of_the_condition():
    class Varying(Answer):
        def __call__(self, x, t, cond):
            p = super().__call__(x, t, cond)
            return p._replace(variance=p.x0)

    x, cond = torch.zeros(2, 4, 1, 1), torch.tensor([[2], [5]])
    p = Guided(Varying(), 3.0, Constant(None), null_cond=NULL)(x, torch.ones(2), cond)
    assert p.variance[:, :, 0, 0].tolist() == [[2.0] * 4, [5.0] * 4]


def test_a_scale_of_1_asks_the_denoiser_alone():
    denoiser = Answer()
    assert guided(denoiser, 1.0, Constant(None), null_cond=NULL) is denoiser
