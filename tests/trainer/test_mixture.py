"""Where the best policy is known, training finds one that is as good."""

from functools import partial

import pytest
import torch

from tests.trainer.parts import CHOICES, make_stage
from tpdm.data.mixture import MixtureData
from tpdm.denoiser import Denoiser
from tpdm.model.mixture import Mixture
from tpdm.optimizer import adam
from tpdm.predictor.vit import ViTPredictor
from tpdm.registry import build
from tpdm.sampler.adaptive import AdaptiveSampler, mode
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.reference import reference
from tpdm.sampler.step import ab2
from tpdm.scheduler.flow import Flow
from tpdm.search.brute_force import best_by_condition, brute_force
from tpdm.search.least_squares import refined
from tpdm.search.problem import Problem
from tpdm.trainer.pool import Pool
from tpdm.trainer.predictor import PredictorTrainer

COST = 6e-4
LAW = {"easy_std": 1.0, "components": 4, "radius": 1.0, "hard_std": 0.25}
DATA, PATH = MixtureData(**LAW, split="train"), Flow(1.0, "velocity")
DENOISER = Denoiser(Mixture(**LAW, shape=DATA.shape, cond=DATA.cond, scheduler=PATH), PATH)
SAMPLER = AdaptiveSampler(ab2, 28, 0.01, 1e-3, 0.999, "mode", "data")


def problem(first, count, cond):
    noise = initial_noise(range(first, first + count), DATA.shape)
    return Problem(DENOISER, ab2, noise, cond, reference(DENOISER, noise, cond, 16))


def of_each_kind(first, count):
    return [problem(first, count, torch.full((count, 1), kind)) for kind in (0, 1)]


def objective(predictor, problems):
    """Mean over the kinds of MSE + cost x NFE."""
    worth = []
    for part in problems:
        draw = {"draw": mode, "keep_features": False}
        trajectory = SAMPLER.rollout(predictor, DENOISER, part.noise, part.cond, **draw).trajectory
        worth.append(part.errors(trajectory.x0).mean() + COST * trajectory.nfe.float().mean())
    return torch.stack(worth).mean().item()


@pytest.fixture(scope="module")
def optimum():
    """Of all schedules of a grid, each led on to the best beside it; judged on other noises."""

    def best(part, n):
        return refined(part, brute_force(part, n, candidates=10), 6).levels

    tables = [{n: best(part, n) for n in (3, 4, 5, 6)} for part in of_each_kind(0, 96)]
    return best_by_condition(of_each_kind(2**20, 512), tables, COST)


def trained(folder):
    torch.manual_seed(0)
    sizes = {"width": 32, "depth": 1, "num_heads": 2, "patch_size": 1, "mlp_ratio": 2.0, "time_width": 32}
    kinds = {"patch_embedding": "linear", "time": "log_t", "text": "mean", "projection_width": None}
    rest = {"dropout": 0.0, "attention_dropout": 0.0, "init_logits": (0.5, 0.4), "logit_cap": 5.0}
    predictor = ViTPredictor(**sizes, **kinds, **rest, epsilon=1.0, features=DENOISER.backbone.features)
    _, cond = DATA.batch(512, torch.Generator().manual_seed(3))
    seen = problem(2**21, 512, cond)
    trainer = PredictorTrainer(
        **CHOICES | {"max_steps": 200, "prompts": 16, "pool_size": 512, "entropy": 1e-6},
        predictor=predictor,
        denoiser=DENOISER,
        sampler=SAMPLER,
        reward=build("reward", {"name": "trajectory", "cost": {"name": "linear", "cost": COST}}),
        held_out=None,
        decode=lambda x: x,
        pool=Pool(cond, seen.noise[:, None], seen.target[:, None], None),
        optimizer=partial(
            adam, lr=5e-3, betas=(0.9, 0.99), schedule="cosine", warmup=0, hold=0.5, final=0.05
        ),
        stage=make_stage(folder),
    )
    trainer.fit()
    return predictor.eval()


def test_the_easy_kind_is_given_fewer_steps_by_the_best_policy(optimum):
    easy, hard = (len(levels) - 1 for levels in optimum.schedules)
    assert easy < hard


def test_a_learned_policy_is_within_five_percent_of_the_best_by_condition(optimum, tmp_path):
    assert objective(trained(tmp_path), of_each_kind(2**20, 512)) <= 1.05 * optimum.objective
