"""Every mistake is one line and a status of 2, and leaves nothing behind."""

from pathlib import Path

import pytest
import torch

from tests.runs import LOOPS, MODEL, TINY, command, files, raising, refused, trained
from tpdm import evaluate, sample, train
from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.stages import Training

PROMPTS = Path(__file__).parent / "data" / "prompts.txt"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["model=dti"], "model=dti is not known; did you mean dit?"),
        (["modle=dit"], "modle is no key; did you mean model?"),
        (["trainer.max_step=3"], "trainer.max_step is no key; did you mean trainer.max_steps?"),
        (["trainer.max_steps=many"], "trainer.max_steps='many' (str) is not accepted; accepted: int > 0"),
        (["model.label_dropout=2"], "model.label_dropout=2 (int) is not accepted; accepted: float >= 0"),
        (["predictor.time=log"], "predictor.time='log' (str) is not accepted; did you mean log_t?"),
        (["run_name=a/b", "dry_run=true"], "run_name='a/b' is not a plain folder name"),
        ([f"run_name={'a' * 256}"], "a folder's name has at most 255"),
        (["model.patch_size=3"], "model.patch_size=3 does not divide the 16x16 state"),
        (["model.num_heads=5"], "model.width=96 does not divide over model.num_heads=5"),
        (["predictor.num_heads=5"], "predictor.width=64 does not divide over predictor.num_heads=5"),
        (["predictor.patch_size=3"], "predictor.patch_size=3 does not divide the (4, 4) tokens"),
        (["predictor=cnn", "predictor.groups=3"], "width=128 does not divide over predictor.groups"),
        (["predictor.logit_cap=1"], "predictor.init_logits=[1.5, 0.5] reach predictor.logit_cap=1"),
        (["sampler=euler"], "asks no predictor, and none can be trained with it; use sampler="),
        (["predictor=none", "sampler=ddpm"], "scheduler=flow does not have; use scheduler=ddpm"),
        (["sampler.min_ratio=0.5", "sampler.max_ratio=0.4"], "=0.5 is not below sampler.max_ratio=0.4"),
        (["scheduler.predicts=eps"], "scheduler.predicts='eps' cannot give x0 on the flow path"),
        (["trainer=predictor"], "trains a predictor; accepted here: what trains a den"),
        (["trainer.accumulate=3"], "=128 does not divide over 1 processes x"),
        (["predictor_trainer.minibatches=300"], "=300 is more than the 256 trajectories"),
        (["reward=weighted", "+reward.terms.clasifier=1"], "clasifier is no reward; did you mean class"),
        (["data=digits", "evaluation.num_samples=1"], "num_samples=1 holds 1 digits; a Frechet distance"),
        (["predictor=none", "sampler=ddim", "sampler/grid=learned", "sampler.grid.path=a.json"], "missing"),
        (["predictor@baseline=none"], "baseline="),
        (["sampler.max_steps=1"], "sampler.max_steps=1 leaves a predictor nothing to choose; use 2 or more"),
        (["guidance_scale=2", "model.label_dropout=0"], "=2 needs a null label, and model.label_"),
        (["denoiser=nowhere"], "nowhere is missing"),
        ([f"seed={2**63}"], f"seed={2**63} (int) is not accepted; accepted: int >= 0 and <="),
        (["data=prompts", f"data.path={PROMPTS}", "codec/text=transformer_text"], "no images"),
        (
            ["reward/cost=drawn", "reward.cost.low=0.001", "reward.cost.high=0.001005"],
            "reward.cost.low=0.001 and reward.cost.high=0.001005; accepted: low above 0, and high at least 1",
        ),
        (["run_name=../elsewhere"], "run_name='../elsewhere' is not a plain folder name"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_trained_leaves_no_run(argv, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Training, "denoiser", raising(AssertionError("this was to be refused")))
    refused(command(train.main, *argv), line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tmp_path):
    refused(command(train.main, "device=cuda", f"runs={tmp_path}"), "device=cuda, but torch sees no CUDA")
    assert list(tmp_path.iterdir()) == []


def test_a_denoiser_for_another_config_is_not_adopted(finished, tmp_path):
    argv = (*TINY, f"runs={tmp_path / 'runs'}", f"denoiser={finished / 'denoiser'}", "data=digits")
    refused(command(train.main, *argv), "with data.name=digit_scenes, this run has data.name=digits")
    refused(command(train.main, *argv[:-2], f"denoiser={finished / 'predictor'}"), "holds no denoiser")
    refused(command(train.main, *argv[:-2], f"denoiser={finished}"), f"is denoiser={finished / 'denoiser'}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["steps=0"], "steps=0 (int) is not accepted; accepted: int > 0 or null"),
        (
            ["sampler=static", "sampler.step=ddim"],
            "sampler.step='ddim' (str) is not accepted; accepted: a component, as GROUP/KEY=NAME chooses",
        ),
        (["sampler=eular"], "sampler=eular is not known; did you mean euler?"),
        (["sampler=ddpm"], "scheduler=flow does not have"),
        (["sampler=euler", "sampler/grid=learned", "sampler.grid.path=no.json"], "no.json is missing"),
        (["labels=[3,-,-,x]"], "labels: 'x' does not exist; accepted are 0 to 9, and empty or -"),
        (["labels=[10,-,-,-]"], "labels: '10' does not exist"),
        (["labels=[3,-,7]"], "labels: 3 given; a sample has 4 cells"),
        (["labels=[[3,-,-,7],[1,2]]"], "labels: 2 given; a sample has 4 cells"),
        (["labels=[[3,-,-,7],5]"], "labels: 1 given; a sample has 4 cells"),
        (["labels=[]"], "labels: 0 given"),
        (["labels=[[3,-,-,7],[1,1,1,1],[2,2,2,2]]"], "labels are given for 3 images, but seeds asks for 64"),
        (["labels=3"], "labels=3 (int) is not accepted"),
        (["seeds=x"], "seeds='x' is not understood; accepted: 7, 0-63 or [1,5,8-11]"),
        (["seeds=-3"], "seeds=-3 (int) is not accepted"),
        (["seeds=[]"], "seeds=[] is not understood"),
        (["seeds=9-3"], "seeds='9-3' is not understood"),
        (["seeds=4294967296"], "seeds: 4294967296 is outside 0..4294967295"),
        (["seeds=0-99999999999999999999"], "grid=8x8 has room for 64 images, but seeds asks for 1000000000"),
        (["grid=2x2"], "grid=2x2 has room for 4 images, but seeds asks for 64"),
        (["grid=big"], "grid='big' is not understood; accepted: ROWSxCOLUMNS"),
        (["guidance_scale=-1"], "guidance_scale=-1 (int) is not accepted; accepted: float >= 0 or null"),
        (["batch_size=0"], "batch_size=0 (int) is not accepted"),
        (["predictor_folder=nowhere"], "nowhere is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_leaves_no_picture(argv, line, finished, tmp_path):
    before = files(finished)
    refused(command(sample.main, f"run={finished}", f"out={tmp_path / 'x' / 'a.png'}", *argv), line)
    assert list(tmp_path.iterdir()) == []
    assert files(finished) == before


@pytest.mark.parametrize("main", [sample.main, evaluate.main])
def test_a_folder_that_is_no_run_names_the_nearest(main, finished, tmp_path):
    refused(command(main, f"run={finished.parent / 'finishd'}"), f"does not exist; did you mean {finished}?")
    refused(command(main, f"run={tmp_path}"), "has no config.yaml, so it is no run")
    refused(
        command(main, *(["runs=nowhere"] if main is sample.main else [])),
        "run is missing; give it as run=VALUE",
    )


def test_a_predictor_of_another_denoiser_is_refused(finished, composed, tmp_path):
    argv = (*TINY, f"runs={tmp_path}", "run_name=other", "seed=1", "trainer.max_steps=1", "baseline=null")
    trained(composed(*argv))
    other = tmp_path / "other"
    line = (
        f"{other / 'predictor'} is a predictor for another denoiser's features, not for those of {finished}"
    )
    refused(command(sample.main, f"run={finished}", f"predictor_folder={other / 'predictor'}"), line)
    refused(command(sample.main, f"run={finished}", f"predictor_folder={other / 'denoiser'}"), "no predictor")

    wider = tmp_path / "wider"
    config, state = load_artifact(finished / "predictor")
    config["features"]["width"] = 32
    save_artifact(wider, config, state)
    ended = command(sample.main, f"run={finished}", f"predictor_folder={wider}")
    refused(ended, "wider is a predictor for other features: made for FeatureSpec(width=32")


def test_a_denoiser_alone_has_no_adaptive_sampler(tmp_path):
    argv = (*MODEL, *LOOPS, "predictor=none", "trainer.max_steps=1", f"runs={tmp_path}", "run_name=a")
    assert command(train.main, *argv).status == 0
    refused(
        command(sample.main, f"run={tmp_path / 'a'}"), "was trained with predictor=none; choose a fixed sam"
    )
    assert command(sample.main, f"run={tmp_path / 'a'}", "sampler=euler", "seeds=1").status == 0


def test_weights_that_are_no_numbers_are_never_kept(tmp_path):
    argv = (*TINY, f"runs={tmp_path}", "run_name=a", "trainer.max_steps=1", "optimizer.lr=1e38")
    ended = command(train.main, *argv)
    assert ended.status == 1
    assert "sum of weights is" in ended.err
    assert not (tmp_path / "a" / "denoiser").exists()
    assert not list(tmp_path.glob("a/checkpoints/*.pt"))
