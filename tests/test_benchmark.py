"""The plain loop and ours walk the same way; the time of the networks alone is that of the calls they get."""

import json

import pytest
import torch

from tests.runs import command
from tests.tiny import COND, SHAPE, conditions, scrambled, tiny_denoiser, tiny_dit, tiny_predictor
from tpdm import benchmark
from tpdm.benchmark import Settings
from tpdm.data.source import Endless
from tpdm.measuring import configured, measure
from tpdm.registry import build, validate
from tpdm.sampler.adaptive import AdaptiveSampler, sample_by_seed
from tpdm.sampler.replay import replay
from tpdm.sampler.step import ab2, abm, ddim, dpmpp_2m
from tpdm.scheduler.ddpm import ddpm
from tpdm.scheduler.flow import Flow
from tpdm.suite import train
from tpdm.suite.official import official_dit
from tpdm.suite.plain import plain_replay, plain_rollout
from tpdm.suite.ratio import Ratio
from tpdm.suite.rollout import Recorded, RolloutSuite, rows_of
from tpdm.types import CondSpec, DataShape

PATHS = {"flow": Flow(1.0, "velocity"), "ddpm": ddpm(1e-4, 2e-2, 1000, "eps")}
SEEDS = range(12)
CPU = torch.device("cpu")


def adaptive(step=ab2, max_steps=28):
    return AdaptiveSampler(
        step, max_steps, t_min=0.01, min_ratio=1e-3, max_ratio=0.999, draw="sample", end="data"
    )


def start(path):
    denoiser = tiny_denoiser(PATHS[path])
    predictor = tiny_predictor(denoiser.backbone.features).eval()
    noise = torch.randn(len(SEEDS), *SHAPE, generator=torch.Generator().manual_seed(0))
    return predictor, denoiser, noise, conditions(len(SEEDS))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("step", [ddim, dpmpp_2m, ab2, abm])
@pytest.mark.parametrize("max_steps", [5, 28])
def test_the_plain_loop_walks_the_same_way(path, step, max_steps):
    sampler, parts = adaptive(step, max_steps), start(path)
    ours = sampler.rollout(*parts, sample_by_seed(SEEDS))
    plain = plain_rollout(sampler, *parts, sample_by_seed(SEEDS))

    assert [walker.nfe for walker in plain] == ours.trajectory.nfe.tolist()
    assert len({walker.nfe for walker in plain}) > 1 or max_steps == 5
    torch.testing.assert_close(torch.cat([w.x for w in plain]), ours.trajectory.x0, atol=1e-5, rtol=1e-5)
    scored = torch.stack([sum(drawn.log_prob for drawn in walker.drawn)[0] for walker in plain])
    torch.testing.assert_close(scored, ours.log_prob.sum(1), atol=1e-4, rtol=1e-5)
    for walker, row in zip(plain, range(len(SEEDS)), strict=True):
        drawn = ours.ratio[row][ours.drawn[row]]
        torch.testing.assert_close(torch.cat([d.ratio for d in walker.drawn]), drawn, atol=1e-5, rtol=1e-5)


def test_the_plain_replay_scores_the_same():
    sampler, (predictor, *rest) = adaptive(), start("flow")
    ours = sampler.rollout(predictor, *rest, sample_by_seed(SEEDS))
    plain = plain_rollout(sampler, predictor, *rest, sample_by_seed(SEEDS))
    changed = scrambled(predictor, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(
            plain_replay(changed, plain), replay(changed, ours)[1], atol=1e-4, rtol=1e-5
        )


def test_recorded_draws_make_the_same_trajectories():
    sampler, parts = adaptive(), start("flow")
    drawn = sampler.rollout(*parts, sample_by_seed(SEEDS))
    again = sampler.rollout(*parts, Recorded(drawn.ratio))
    assert torch.equal(again.ratio, drawn.ratio)
    assert torch.equal(again.trajectory.x0, drawn.trajectory.x0)


class Counting:
    """Passes calls on and remembers how many rows each had."""

    def __init__(self, inner):
        self.inner, self.rows = inner, []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, *args):
        self.rows.append(len(args[1]))
        return self.inner(*args)


class Data:
    shape: DataShape = SHAPE
    cond: CondSpec = COND

    def batch(self, n, generator):
        return torch.zeros(n, *SHAPE), conditions(n)


def suite(sampler):
    predictor, denoiser, _, _ = start("flow")
    networks = {"denoiser": Counting(denoiser), "predictor": Counting(predictor)}
    return RolloutSuite(10, 2, **networks, sampler=sampler, data=Data(), shape=SHAPE, seed=0, device=CPU)


@pytest.mark.parametrize("max_steps", [5, 28])
def test_the_bound_is_made_of_the_calls_of_the_rollout(max_steps):
    timed = suite(adaptive(max_steps=max_steps))
    rollout = timed.sampler.rollout(
        timed.predictor, timed.denoiser, timed.noise, timed.cond, sample_by_seed(range(10))
    )
    made = timed.denoiser.rows.copy(), timed.predictor.rows.copy()
    timed.denoiser.rows.clear(), timed.predictor.rows.clear()
    timed.networks(rows_of(rollout))
    assert (timed.denoiser.rows, timed.predictor.rows) == made
    assert sum(timed.denoiser.rows) == rollout.trajectory.nfe.sum()


def test_every_contestant_has_its_turn_in_every_repeat():
    measured = suite(adaptive())()
    assert [(ratio.sense, ratio.goal) for ratio in measured.ratios] == [
        ("at least", 2.5), ("at least", 4.0), ("at most", 1.1),
    ]  # fmt: skip
    assert all(len(ratio.values) == 2 and ratio.values[0] > 0 for ratio in measured.ratios)
    assert measured.facts["batch"] == 10


def test_a_ratio_is_judged_by_its_median():
    ratio = Ratio("a / b", [9.0, 2.0, 3.0], "at least", 3.0)
    assert (ratio.median, ratio.met) == (3.0, True)
    assert str(ratio) == "a / b: 3.00 (2.00 to 9.00 over 3 repeats); goal at least 3.0: met"
    assert not Ratio("a / b", [9.0, 2.0, 3.0], "at most", 2.5).met


def test_the_config_fits(composed):
    validate(composed(config="benchmark"), Settings)


def test_a_sampler_without_draws_is_refused(composed):
    cfg = composed("sampler=euler", config="benchmark")
    with pytest.raises(ValueError, match="use sampler=adaptive"):
        build("suite", cfg["suite"], seed=0, device=CPU, **configured(cfg, CPU))


def test_the_command_prints_its_ratios_and_keeps_them(composed, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    small = [
        "model.width=16",
        "model.depth=1",
        "model.num_heads=2",
        "predictor.width=16",
        "sampler.max_steps=3",
    ]
    cfg = composed(
        "suite.batch_size=4", "suite.repeats=2", "device=cpu", f"out={out}", *small, config="benchmark"
    )
    measure(cfg)
    record = json.loads(out.read_text())
    assert capsys.readouterr().out.count("goal at") == len(record["ratios"]) == 3
    assert all(len(ratio["values"]) == 2 for ratio in record["ratios"])
    assert record["config"] == cfg
    assert record["hardware"]["cores"] >= 1


TRAIN = (
    "suite=train", "device=cpu", "suite.repeats=3", "suite.batch_size=2", "suite.compile=false",
    "model.width=16", "model.depth=1", "model.num_heads=2",
)  # fmt: skip


def test_the_suite_of_training_tells_what_it_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "LARGE", ((64, 64, 64), (32, 16, 8)))
    out = tmp_path / "numbers.json"
    ended = command(benchmark.main, *TRAIN, f"out={out}")
    assert ended.status == 0, ended.err
    record = json.loads(out.read_text())
    facts, ratios = record["facts"], record["ratios"]
    assert [ratio["name"] for ratio in ratios] == [
        "no / diffusers no", "bf16 / diffusers bf16", "bf16_weights / diffusers bf16",
    ]  # fmt: skip
    assert [ratio["goal"] for ratio in ratios] == [0.90, 0.65, 0.65]
    for ratio in ratios:
        ours, _, theirs = ratio["name"].partition(" / ")
        seconds = zip(facts["seconds"][ours], facts["seconds"][theirs], strict=True)
        assert ratio["values"] == [ours / theirs for ours, theirs in seconds]
        assert len(ratio["values"]) == 3
    tokens, width, patch = 256, 16, 2 * 2 * 4
    linear = 12 * width**2 * tokens + width * patch * tokens * 3  # the blocks, the patches, two outputs
    attention = 2 * tokens**2 * width
    condition = 256 * width + width**2 + 8 * width**2  # the time's MLP, and what shifts and scales
    assert facts["multiply_adds"] == linear + attention + condition
    for name, share in facts["share_of_peak"].items():
        rate = facts["peak"]["no" if name.endswith("no") else "bf16"]
        usual = sorted(facts["seconds"][name])[1]
        assert share == pytest.approx(6 * facts["multiply_adds"] * 2 / usual / rate)
        assert f"{name}: {2 / usual:.1f} images/s" in ended.out
    assert ended.out.count("goal at") == 3


def test_diffusers_network_is_of_our_size(composed):
    """Its blocks embed time and label each for itself; all else has as many numbers as ours."""
    model = tiny_dit(outputs=2)
    shape, cond = DataShape(1, 8, 8), CondSpec(1, 3)
    network, forward = official_dit(model, shape, cond, outputs=2)
    x, timestep, label = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 700.0]), torch.tensor([[0], [2]])
    assert forward(x, timestep, label).shape == model(x, timestep, label.expand(2, 2))[0].shape
    assert len(network.transformer_blocks) == len(model.blocks)
    for theirs, ours in zip(network.transformer_blocks, model.blocks, strict=True):
        embedding = sum(p.numel() for p in theirs.norm1.emb.parameters())
        assert sum(p.numel() for p in theirs.parameters()) - embedding == sum(
            p.numel() for p in ours.parameters()
        )


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model/block=in_context", "use model=dit_"),
        ("run=runs/a", "leave out run="),
        ("suite.precisions=[]", "leaves nothing to time"),
        ("data=digit_scenes", "one label"),
    ],
)
def test_what_has_no_counterpart_in_diffusers_is_refused(override, reason):
    ended = command(benchmark.main, *TRAIN, override)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert reason in ended.err


def test_a_ratio_without_a_goal_is_told_without_a_verdict():
    ratio = Ratio("a / b", [2.0], "at most", None)
    assert ratio.met is None
    assert str(ratio) == "a / b: 2.00 (2.00 to 2.00 over 1 repeats)"


def test_the_data_suite_measures_each_of_its_goals():
    denoiser = tiny_denoiser(PATHS["flow"])
    facts = {"denoiser": denoiser, "data": Endpoints(), "seed": 0, "device": CPU}
    sizes = {"samples": 40, "shards": 10, "images": 4, "batch_size": 8, "repeats": 1}
    measured = build("suite", {"name": "data", **sizes}, **facts)()
    assert all(len(ratio.values) == 1 and ratio.values[0] > 0 for ratio in measured.ratios)
    assert len(measured.ratios) == 6
    assert not any(p.requires_grad for p in denoiser.parameters()), "it trains a copy"


class Endpoints(Endless):
    """What the tiny denoiser reads."""

    shape, cond = SHAPE, COND

    def batch(self, n, generator):
        return torch.zeros(n, *SHAPE), conditions(n)
