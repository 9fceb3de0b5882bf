import pytest
import torch

from tests.trainer.parts import LengthReward, tiny_trainer, toy_trainer
from tpdm.objective.kl import schedule_beta
from tpdm.objective.rloo import rloo, standardise
from tpdm.sampler.replay import replay, select
from tpdm.trainer.watch import RewardHackedError
from tpdm.types import CostRange


def explored(trainer, step=0):
    """A rollout under the weights as they are, and an advantage of noise."""
    generator = trainer.stage.generator(step)
    rollout, _ = trainer.explore(generator)
    advantage = torch.randn(len(rollout.ratio), generator=generator)
    return rollout, advantage, generator


def lengths(trainer):
    """NFE of fresh draws, after training."""
    rollout, _ = trainer.explore(trainer.stage.generator(12345))
    return rollout.trajectory.nfe.float()


@pytest.mark.parametrize("best", [3, 9])
def test_the_known_best_length_of_a_toy_reward_is_found(best, tmp_path):
    trainer = toy_trainer(tmp_path, lambda nfe: -((nfe - best) ** 2))
    before = lengths(trainer)
    trainer.fit()
    after = lengths(trainer)
    assert (before.mean() - best).abs() > 1.5
    assert (after - best).square().mean() < 0.2 * (before - best).square().mean()
    assert after.mean().item() == pytest.approx(best, abs=0.6)


def test_a_constant_in_the_reward_changes_nothing(tmp_path):
    """Bit for bit where the rewards are whole numbers."""
    weights = []
    for constant in (0, 1000):
        trainer = toy_trainer(
            tmp_path / str(constant), lambda nfe, c=constant: c - (nfe - 3) ** 2, max_steps=4
        )
        weights.append(trainer.fit())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_kl_pulls_to_the_schedule(tmp_path):
    """With nothing to gain elsewhere, the predictor becomes the uniform schedule of the reference."""
    trainer = toy_trainer(tmp_path, lambda nfe: 0 * nfe, kl=1.0, max_steps=60)
    trainer.fit()
    t = torch.tensor([0.4, 0.7, 1.0])
    reference = schedule_beta(t, num_steps=8, sharpness=50.0)
    torch.testing.assert_close(trainer.predictor(None, t).mode, reference.mode, atol=0.03, rtol=0)
    assert lengths(trainer).mean().item() == pytest.approx(8, abs=1)


def test_entropy_is_kept_up_where_it_is_paid_for(tmp_path):
    entropies = []
    for entropy in (0.0, 0.1):
        trainer = toy_trainer(tmp_path / str(entropy), lambda nfe: 0 * nfe, entropy=entropy, max_steps=10)
        trainer.fit()
        entropies.append(trainer.predictor(None, torch.tensor([0.5])).entropy())
    assert entropies[1] > entropies[0] + 0.05


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("minibatches", [1, 3])
def test_before_the_weights_move_the_importance_ratio_is_exactly_one(minibatches, dropout, tmp_path):
    """As an update computes it, at a learning rate of 0; a clip of 0 would see any other, in any part."""
    trainer = tiny_trainer(tmp_path, lr=0.0, clip=0.0, minibatches=minibatches, dropout=dropout)
    rollout, advantage, generator = explored(trainer)
    stats = trainer.improve(rollout, advantage, 0, generator)
    assert stats["importance"] == 1
    assert stats["clip_share"] == 0
    assert stats["grad_norm"] > 0


def test_the_first_update_is_that_of_reinforce(tmp_path):
    """Where the ratio is 1, the surrogate's gradient is that of -advantage log p."""
    trainer = tiny_trainer(tmp_path)
    rollout, advantage, _ = explored(trainer)
    parameters = list(trainer.predictor.parameters())
    _, log_prob = replay(trainer.predictor, rollout)
    loss, _ = trainer.surrogate(rollout, advantage, log_prob.detach(), seed=0)
    got = torch.autograd.grad(loss, parameters)
    expected = torch.autograd.grad(-(advantage * log_prob).mean(), parameters)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_every_trajectory_is_in_one_minibatch(tmp_path):
    trainer = tiny_trainer(tmp_path, minibatches=3)
    parts = list(trainer.split(10, torch.Generator().manual_seed(0)))
    assert [part.tolist() for part in parts] == [sorted(part.tolist()) for part in parts]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert torch.cat(parts).tolist() != list(range(10))


def test_siblings_share_condition_and_noise_and_differ_by_their_times(tmp_path):
    trainer = tiny_trainer(tmp_path, prompts=2, samples=4)
    seen = []
    trainer.denoiser.backbone.register_forward_hook(lambda m, args, out: seen.append(args))
    rollout, *_ = explored(trainer)
    x, _, cond = seen[0]
    for group in (x, cond):
        assert (group[:4] == group[:1]).all()
        assert (group[4:] == group[4:5]).all()
    assert not torch.equal(x[0], x[4])
    assert rollout.ratio[:, 0].unique().numel() == 8


class LearnedReward(LengthReward):
    """Has a weight of its own, as a classifier that nobody froze."""

    weight = torch.ones((), requires_grad=True)

    def __call__(self, x0, cond, target, prompts=None):
        return self.weight * torch.rand(len(x0))


def test_no_gradient_goes_into_the_reward(tmp_path):
    trainer = toy_trainer(tmp_path, lambda nfe: -nfe, max_steps=1)
    trainer.reward = LearnedReward(lambda nfe: -nfe)
    trainer.fit()
    assert trainer.reward.weight.grad is None


def test_a_reward_that_is_no_number_stops_the_run_with_its_step_and_seed(tmp_path):
    trainer = toy_trainer(tmp_path, lambda nfe: nfe * torch.nan)
    told = r"the predictor's reward is nan for an image in 4 of 4 groups, .* at step 0, rank 0, seed 0"
    with pytest.raises(FloatingPointError, match=told):
        trainer.fit()


def test_it_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path):
    straight = toy_trainer(tmp_path / "straight", lambda nfe: -nfe, max_steps=4).fit()
    toy_trainer(tmp_path / "stopped", lambda nfe: -nfe, max_steps=2).fit()
    resumed = toy_trainer(tmp_path / "stopped", lambda nfe: -nfe, max_steps=4).fit()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def sparing(nfe, cost):
    """Best at (2 / cost)^(1/3) calls."""
    return -1 / nfe**2 - cost * nfe


def test_one_predictor_finds_the_known_best_length_of_every_cost(tmp_path):
    costs = CostRange(0.003, 0.25)  # 8.7 calls to 2
    trainer = toy_trainer(tmp_path, sparing, costs=costs, prompts=16, max_steps=50)
    trainer.fit()
    trainer.prompts = 256
    rollout, _ = trainer.explore(trainer.stage.generator(12345))
    nfe, order = rollout.trajectory.nfe.float(), rollout.cost.argsort()
    for rows in order.chunk(4):
        best = (2 / rollout.cost[rows]).pow(1 / 3).mean().item()
        assert nfe[rows].mean().item() == pytest.approx(best, rel=0.25)


def test_the_samples_of_a_prompt_share_a_cost_and_the_prompts_cover_the_range(tmp_path):
    costs = CostRange(1e-6, 1e-2)
    trainer = toy_trainer(tmp_path, sparing, costs=costs, prompts=8, samples=4)
    drawn = trainer.draw_costs(torch.Generator().manual_seed(0)).unflatten(0, (8, 4))
    assert (drawn == drawn[:, :1]).all()
    place = costs.share(drawn[:, 0]) * 8
    assert sorted(place.long().tolist()) == list(range(8))
    assert place.long().tolist() != list(range(8))


def test_it_goes_on_with_drawn_costs_as_if_never_stopped(tmp_path):
    costs = CostRange(0.01, 0.1)
    straight = toy_trainer(tmp_path / "straight", sparing, costs=costs, max_steps=4).fit()
    toy_trainer(tmp_path / "stopped", sparing, costs=costs, max_steps=2).fit()
    resumed = toy_trainer(tmp_path / "stopped", sparing, costs=costs, max_steps=4).fit()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_more_minibatches_than_trajectories_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"predictor_trainer.minibatches=9 is more than the 8 trajectories"):
        toy_trainer(tmp_path, lambda nfe: nfe, prompts=2, samples=4, minibatches=9)


class PartlyBlind(LengthReward):
    """Cannot judge one image of the second group; a trajectory is worth the pixels it ends in."""

    def __call__(self, x0, cond, target, prompts=None):
        reward = x0.mean((1, 2, 3)).clone()
        reward[5] = torch.nan
        return reward


def test_a_group_with_an_unjudged_image_is_left_out_and_counted(tmp_path):
    """The update is that of the other groups alone: same advantages, same gradient."""
    trainer = tiny_trainer(tmp_path, prompts=3, samples=4)
    trainer.reward = PartlyBlind(lambda nfe: -0.1 * nfe)
    rollout, judged = trainer.explore(trainer.stage.generator(0))
    worth = trainer.reward.cost(judged.reward, rollout.trajectory.nfe)
    advantage = trainer.compare(worth, 0)
    assert (advantage[4:8] == 0).all()
    assert trainer.watch.left_out == 1

    rows = torch.tensor([0, 1, 2, 3, 8, 9, 10, 11])
    alone = standardise(rloo(worth[rows].unflatten(0, (2, 4))), 4.0).flatten()
    parameters = list(trainer.predictor.parameters())
    gradients = []
    for part, weight in ((rollout, advantage), (select(rollout, rows), alone)):
        _, log_prob = replay(trainer.predictor, part)
        loss, _ = trainer.surrogate(part, weight, log_prob.detach(), seed=0)
        gradients.append(torch.autograd.grad(loss, parameters))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)


class Worth(LengthReward):
    """The same for every image, by the update."""

    def __init__(self, values):
        super().__init__(lambda nfe: 0 * nfe)
        self.values = iter(values)

    def __call__(self, x0, cond, target, prompts=None):
        return torch.full((len(x0),), next(self.values))


def test_a_run_stops_where_its_reward_rises_and_the_held_out_one_falls(tmp_path):
    rising, falling = [0.0, 1.0, 2.1, 3.0, 4.0], [5.0, 4.0, 3.1, 2.0, 1.0]
    choices = {"max_steps": 5, "guard": "stop", "guard_window": 5}
    trainer = toy_trainer(tmp_path, lambda nfe: 0 * nfe, held_out=Worth(falling), **choices)
    trainer.reward = Worth(rising)
    with pytest.raises(RewardHackedError, match="over the last 5 updates up to step 4"):
        trainer.fit()


def test_what_the_watch_has_seen_outlives_a_stop(tmp_path):
    """Neither half of the window is one."""
    rising, falling = [0.0, 1.0, 2.1, 3.0, 4.0], [5.0, 4.0, 3.1, 2.0, 1.0]

    def trainer(begin, end):
        held_out = Worth(falling[begin:end])
        choices = {"max_steps": end, "guard": "stop", "guard_window": 5, "held_out": held_out}
        made = toy_trainer(tmp_path, lambda nfe: 0 * nfe, **choices)
        made.reward = Worth(rising[begin:end])
        return made

    trainer(0, 2).fit()
    with pytest.raises(RewardHackedError, match="over the last 5 updates up to step 4"):
        trainer(2, 5).fit()


def test_running_out_of_memory_names_the_batch_and_what_halves_it(tmp_path):
    trainer = toy_trainer(tmp_path, lambda nfe: nfe, prompts=4, samples=8)

    trainer.decode = lambda x: torch.empty(2**50)  # more than any machine has
    told = (
        r"out of memory with 32 trajectories \(.*prompts=4 times .*; predictor_trainer\.prompts=2 halves them"
    )
    with pytest.raises(MemoryError, match=told):
        trainer.fit()
