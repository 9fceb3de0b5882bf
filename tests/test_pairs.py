"""Every choice of every group builds, and every pair of choices takes a tiny step of each stage."""

from functools import cache
from itertools import combinations, product
from unittest.mock import patch

import pytest
import torch

from tests.data.pictures import every_kind
from tests.runs import LOOPS, MODEL, trained
from tests.test_config import FILES, PUBLISHED, REACHED_BY
from tests.test_prepare import config as preparation
from tpdm import stages
from tpdm.check import check
from tpdm.drawing import conditions
from tpdm.evaluation.digit_classifier import DigitClassifier
from tpdm.finished import FinishedRun
from tpdm.preparing import prepare
from tpdm.runtime.run import Run

REFUSED = {
    ("trainer", "predictor"): "trains a predictor; accepted here: what trains a denoiser",
    ("trainer", "codec"): "trains a codec; accepted here: what trains a denoiser",
    ("data", "prompts"): "data=prompts has no images",
    ("sampler", "allocated"): r"sampler\.path=nowhere is missing; accepted: the folder arena/allocator",
    ("codec", "kl_vae"): "codec.path is missing",
    ("codec", "kl_vae_small"): "codec.path is missing",
    ("codec", "sd_vae"): "codec.path=nowhere is no folder here",
    ("codec/text", "clip"): r"codec\.text\.path=nowhere is no folder here",
    ("codec/text", "t5"): r"codec\.text\.path=nowhere is no folder here",
    ("codec", "sd3"): r"model\.path=nowhere is no folder here",
    ("codec/text", "sd3"): r"path=nowhere is no folder here",
    **{("model", name): r"path=nowhere is no folder here" for name in ("sd3", "sd35_medium", "sd35_large")},
    ("predictor", "official"): r"predictor\.path=nowhere does not exist",
    **{("reward", name): r"reward\.path=nowhere is no folder here, and no id" for name in PUBLISHED},
}


OTHERS = ("launcher", "suite", "arena", "search")  # groups that training knows nothing of


def groups(name):
    return [choice for group, choice in FILES if group == name]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with whatever REACHED_BY names."""
    folder = tmp_path_factory.mktemp("files")
    every_kind(folder)
    prepare(preparation(folder / "images", folder / "latents"))
    (folder / "grid.json").write_text(str([1 - k / 28 for k in range(29)]))
    return folder


@pytest.mark.parametrize(("group", "name"), [file for file in FILES if file[0] not in OTHERS])
def test_every_choice_builds_or_is_refused_with_a_reason(group, name, composed, files, monkeypatch):
    monkeypatch.chdir(files)
    reached_by = (*REACHED_BY.get(group, []), *REACHED_BY.get((group, name), []))
    fixed = (group == "sampler" and name != "adaptive") or group == "sampler/grid"
    alone = ["predictor=none"] if fixed else []
    path = ["scheduler=ddpm"] if name == "ddpm" else []
    unjudged = (group, name) == ("evaluation", "none") or "sd3" in name or "sd35" in name
    judged = [] if unjudged else ["evaluation.num_samples=16"]
    cfg = composed(*reached_by, f"{group}={name}", *alone, *path, *judged)
    if (group, name) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[group, name]):
            check(cfg)
    else:
        check(cfg)


PREDICTORS = {  # with their sizes; vit_small, vit_medium and vit_large are a vit with others
    "vit": ["width=16", "num_heads=2"],
    "cnn": ["width=16", "groups=4"],
    "hybrid": ["arch.width=16", "arch.num_heads=2"],
    "time_only": ["width=16"],
    "none": [],
}
STEPS = groups("sampler/step")
UNAIDED = [name for name in groups("sampler") if name not in ("adaptive", "allocated")]  # by anything found
LENGTHS = {"error_controlled": "max_steps"}  # what says how many steps; num_steps elsewhere
CHOICES = {
    "model/block": groups("model/block"),
    "predictor": list(PREDICTORS),
    "scheduler": groups("scheduler"),
    "sampler": [*(f"adaptive {step}" for step in STEPS), *UNAIDED],
}


def refusal(row):
    """Why a row of choices cannot be trained; None where it can."""
    fixed = not row["sampler"].startswith("adaptive")
    if fixed and row["predictor"] != "none":
        return "asks no predictor"
    if row["sampler"] == "ddpm" and row["scheduler"].startswith("flow"):
        return "scheduler=flow does not have"
    return None


def pairs(row):
    return set(combinations(row.items(), 2))


def covering(rows, wanted):
    """Few of the rows, which have every wanted pair: always the one with most new pairs."""
    chosen, left = [], set(wanted)
    while left:
        best = max(rows, key=lambda row: len(pairs(row) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen


ROWS = [dict(zip(CHOICES, row, strict=True)) for row in product(*CHOICES.values())]
POSSIBLE = [row for row in ROWS if refusal(row) is None]
TRAINABLE = set().union(*map(pairs, POSSIBLE))
TRAINED = covering(POSSIBLE, TRAINABLE)
NEVER = covering(ROWS, set().union(*map(pairs, ROWS)) - TRAINABLE)


SMALL = (
    *MODEL,
    *LOOPS,
    "data=digits",
    "trainer.max_steps=1",
    "predictor_trainer.max_steps=1",
    "baseline=null",
)
EULER = {"name": "euler", "num_steps": 3, "grid": {"name": "uniform"}}


@pytest.fixture(scope="module")
def settings(composed):
    """settings(row) -> its config; every choice is composed once for all rows, since Hydra takes its time."""

    @cache
    def chosen(group, choice):
        node = group.split("/")[0]
        sizes = PREDICTORS[choice] if group == "predictor" else []
        return {node: composed(*SMALL, f"{group}={choice}", *(f"{node}.{size}" for size in sizes))[node]}

    @cache
    def sampler(choice):
        name, _, step = choice.partition(" ")
        how = (
            [f"sampler/step={step}", "sampler.max_steps=4"]
            if step
            else [f"sampler.{LENGTHS.get(name, 'num_steps')}=3"]
        )
        return {"sampler": composed(f"sampler={name}", *how)["sampler"]}

    def settings(row):
        nodes = [
            sampler(choice) if group == "sampler" else chosen(group, choice) for group, choice in row.items()
        ]
        return base | {key: value for node in nodes for key, value in node.items()}

    base = composed(*SMALL, "run_name=a")
    return settings


def ids(row):
    return "-".join(row.values()).replace(" ", "_")


@pytest.mark.parametrize("row", TRAINED, ids=ids)
def test_a_pair_takes_a_step_of_each_stage(row, settings, tmp_path):
    with patch.object(stages, "kept_digit_classifier", lambda folder: DigitClassifier()):
        trained({**settings(row), "runs": str(tmp_path)})
    run = FinishedRun(Run(tmp_path / "a"), torch.device("cpu"))
    cond = conditions(run.assembly.data("test"), None, [0, 1])
    alone = row["predictor"] == "none" and row["sampler"].startswith("adaptive")
    sampler = run.sampler(EULER if alone else run.cfg["sampler"], None)
    images, nfe = run.sample(sampler, [0, 1], cond, 1.5, run.cfg["guidance"], 2)
    assert images.shape == (2, 1, 8, 8)
    assert images.isfinite().all()
    assert (nfe > 0).all()


@pytest.mark.parametrize("row", NEVER, ids=ids)
def test_a_pair_that_makes_no_sense_is_refused_with_a_reason(row, settings, tmp_path):
    with pytest.raises(ValueError, match=refusal(row)):
        trained({**settings(row), "runs": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["reward=classifier", "reward/cost=discounted", "predictor_trainer.kl=0.1"],
        ["reward=weighted", "predictor_trainer.share_noise=false", "predictor_trainer.minibatches=2"],
        ["guidance_scale=2", "inference_dtype=bfloat16", "mixed_precision=bf16"],
        ["predictor.text=cross_attention", "predictor.time=temb", "predictor.projection_width=8"],
        ["predictor.text=mean", "predictor.time=none", "predictor.dropout=0.1", "trainer.accumulate=2"],
        ["scheduler=ddpm", "scheduler.predicts=eps_and_variance", "density=beta", "optimizer=adam"],
        ["mixed_precision=bf16_weights", "trainer.accumulate=2", "trainer.gradient_checkpointing=true"],
    ],
    ids=lambda options: options[0],
)
def test_what_no_preset_turns_on_takes_a_step_too(options, composed, tmp_path):
    trained(composed(*SMALL, *options, f"runs={tmp_path}", "run_name=a"))
    run = FinishedRun(Run(tmp_path / "a"), torch.device("cpu"))
    sampler, cond = run.sampler(run.cfg["sampler"], None), torch.tensor([[3], [5]])
    images, _ = run.sample(sampler, [0, 1], cond, 2.0, run.cfg["guidance"], 2)
    assert images.isfinite().all()
