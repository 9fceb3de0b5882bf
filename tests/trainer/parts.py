"""A stage in an empty folder, and a predictor's trainer whose reward is known."""

from functools import partial

import torch
from accelerate import Accelerator

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import path
from tests.tiny import conditions, tiny_denoiser, tiny_predictor
from tpdm.optimizer import adam
from tpdm.predictor.time_only import TimeOnlyPredictor
from tpdm.runtime.run import Run
from tpdm.runtime.tracking import NullTracker
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.step import ddim
from tpdm.trainer.pool import Pool
from tpdm.trainer.predictor import PredictorTrainer
from tpdm.trainer.stage import Stage
from tpdm.types import FeatureSpec

CHOICES = {
    "max_steps": 40, "prompts": 4, "samples": 8, "share_noise": True, "pool_size": 64, "reference_steps": 1,
    "epochs": 3, "minibatches": 1, "replay_rows": None, "clip": 0.2,
    "advantage_clip": 4.0, "entropy": 0.0, "kl": 0.0, "kl_num_steps": 8, "kl_sharpness": 50.0,
    "clip_norm": 1.0, "report_every": 10, "max_left_out": 0.5, "guard": "warn",
    "guard_window": 50, "save_every": 1000,
}  # fmt: skip
SAMPLER = AdaptiveSampler(ddim, 28, 0.01, 1e-3, 0.999, "mode", "data")


class LengthReward:
    """Images are worth nothing; a trajectory is worth what `worth` says of its length."""

    uses_target = uses_prompts = False

    def __init__(self, worth):
        self.worth = worth

    def __call__(self, x0, cond, target, prompts=None):
        return torch.zeros(len(x0))

    def cost(self, reward, nfe, *told):
        return reward + self.worth(nfe.float(), *told)


def make_stage(folder, name="predictor", seed=0, mixed_precision="no"):
    return Stage(name, Run(folder), NullTracker(), Accelerator(cpu=True), seed, mixed_precision)


def make_pool(size=64, shape=(1, 2, 2)):
    noise = torch.randn(size, 1, *shape, generator=torch.Generator().manual_seed(0))
    return Pool(conditions(size), noise, torch.zeros_like(noise), None)


def trainer_of(folder, predictor, denoiser, reward, lr, pool, held_out=None, costs=None, **choices):
    return PredictorTrainer(
        **CHOICES | choices,
        predictor=predictor,
        denoiser=denoiser,
        sampler=SAMPLER,
        reward=reward,
        held_out=held_out,
        decode=lambda x: x,
        pool=pool,
        optimizer=partial(adam, lr=lr, betas=(0.9, 0.99), schedule="constant", warmup=0, hold=1.0, final=1.0),
        stage=make_stage(folder),
        costs=costs,
    )


def toy_trainer(folder, worth, lr=0.02, **choices):
    """A predictor that sees t alone, on an ideal denoiser."""
    torch.manual_seed(0)
    features = FeatureSpec(4, 1, None, (1, 1))
    predictor = TimeOnlyPredictor(16, 16, (1.5, 0.5), 4.0, 1.0, features=features, costs=choices.get("costs"))
    denoiser = IdealDenoiser(path("flow"), 0.3, 0.5)
    return trainer_of(folder, predictor, denoiser, LengthReward(worth), lr, make_pool(), **choices)


def tiny_trainer(folder, lr=0.01, dropout=0.0, **choices):
    """Real small networks, and a reward that makes every sample differ."""
    denoiser = tiny_denoiser(path("flow"))
    predictor = tiny_predictor(denoiser.backbone.features, dropout)
    pool = make_pool(shape=(1, 8, 8))
    return trainer_of(folder, predictor, denoiser, LengthReward(lambda nfe: -nfe), lr, pool, **choices)
