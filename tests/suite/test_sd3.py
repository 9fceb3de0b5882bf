"""The suite of Stable Diffusion 3 in small: the plain way learns the same, and what is told was done."""

import json
from functools import partial

import pytest
import torch

from tests.runs import command
from tpdm import benchmark
from tpdm.registry import build
from tpdm.suite.peak import Peak, peak
from tpdm.suite.sd3 import grown
from tpdm.suite.transformer import Workload
from tpdm.suite.update import Updates

TINY = (
    "suite=sd3", "device=cpu", "suite.layers=1", "suite.num_heads=2", "suite.head_width=8", "suite.side=16",
    "suite.tokens=3", "suite.repeats=2", "suite.modes=[float32,bfloat16]", "suite.memory_steps=[]",
    "predictor.width=16", "predictor_trainer.prompts=2", "predictor_trainer.samples=2",
)  # fmt: skip


def sgd(parameters, max_steps):
    """Rounding stays rounding: Adam would divide it by itself."""
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


@pytest.fixture(scope="module")
def workload(composed):
    cfg = composed(*TINY, config="benchmark")
    sizes = {"layers": 1, "num_heads": 2, "head_width": 8, "side": 16, "tokens": 3, "guidance_scale": 7.0}
    return Workload(
        **sizes,
        scheduler=build("scheduler", cfg["scheduler"]),
        sampler=build("sampler", cfg["sampler"]),
        make_predictor=partial(build, "predictor", cfg["predictor"]),
        make_trainer=partial(build, "trainer", cfg["predictor_trainer"]),
        optimizer=sgd,
        seed=0,
        device=torch.device("cpu"),
    )


def test_an_update_done_the_plain_way_learns_the_same(workload, tmp_path):
    updates = Updates(workload, "float32", tmp_path)
    start = [p.clone() for p in updates.predictor.parameters()]
    for k in range(2):
        rollout, _ = updates.ours(k)
        assert updates.rows == 2 * rollout.trajectory.nfe.sum()
        updates.plain(k, rollout)
    learned, plain = (list(p.parameters()) for p in (updates.trainer.predictor, updates.predictor))
    torch.testing.assert_close(plain, learned, atol=1e-5, rtol=1e-3)
    moved = torch.cat([(a - b).abs().flatten() for a, b in zip(start, learned, strict=True)])
    assert moved.max() > 1e-2


def test_what_an_update_stores_grows_with_the_steps_that_are_drawn(workload):
    few, many = (peak(workload, "bfloat16", steps) for steps in (3, 9))
    means = 4 * 2 * 16  # of patches, first and last, of the transformer's width
    assert few.features == 2 * 4 * 2 * means  # bytes a number, trajectories, draws
    assert many.features == 4 * few.features


def test_growth_is_of_what_is_not_stored():
    (ratio,) = grown([Peak(100, 20), Peak(200, 30), Peak(196, 100)])
    assert ratio.values == [1.2]
    assert not ratio.met
    assert grown([Peak(100, 20)]) == []


def test_the_command_tells_times_rows_and_bytes(tmp_path):
    out = tmp_path / "numbers.json"
    ended = command(benchmark.main, *TINY, f"out={out}")
    assert ended.status == 0, ended.err
    record = json.loads(out.read_text())
    facts, ratios = record["facts"], {ratio["name"]: ratio for ratio in record["ratios"]}
    goals = {name: ratio["goal"] for name, ratio in ratios.items() if ratio["goal"] is not None}
    assert goals == {
        "float32 rollout / float32 rows": 1.10,
        "bfloat16 rollout / bfloat16 rows": 1.10,
        "float32 update / plain update": 0.65,
        "bytes of features shown / stored": 10.0,
    }
    for name in set(ratios) - {"bytes of features shown / stored"}:
        above, _, below = name.partition(" / ")
        seconds = zip(facts["seconds"][above], facts["seconds"][below], strict=True)
        assert ratios[name]["values"] == [x / y for x, y in seconds]
    assert facts["evaluated"] == 2 * facts["rows"]
    medium = facts["bytes"]["Stable Diffusion 3 medium"]
    temb = 2 * 1536
    assert medium["shown"] == medium["cnn"] == 2 * 2 * 1536 * 64**2 + temb
    assert 16 * medium["configured"] == medium["shown"] - temb
    assert f"shown {medium['shown']:,}" in ended.out


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("suite.modes=[]", "leaves nothing to time"),
        ("sampler=euler", "use sampler=adaptive"),
        ("run=runs/a", "leave out run="),
        ("predictor=none", "this config has none"),
        ("predictor_trainer=null", "use trainer@predictor_trainer=predictor"),
    ],
)
def test_what_leaves_nothing_to_measure_is_refused(override, reason):
    ended = command(benchmark.main, "suite=sd3", "device=cpu", override)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert reason in ended.err
