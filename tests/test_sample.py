"""A finished run, drawn from with every sampler: the same seeds are the same images."""

import re
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from tests.runs import LOOPS, MODEL, command, refused, trained
from tpdm import sample
from tpdm.drawing import conditions, parse_grid, parse_seeds, with_steps
from tpdm.finished import FinishedRun
from tpdm.registry import names
from tpdm.runtime.run import Run
from tpdm.sampler.step import ab2, abm, ddim

CPU = torch.device("cpu")
SEEDS = [3, 1, 4, 15, 9, 2, 6]
UNIFORM = {"name": "uniform"}


@pytest.fixture(scope="module")
def run(finished):
    return FinishedRun.open(str(finished), CPU, ema=True)


@pytest.fixture(scope="module")
def vp_run(composed, tmp_path_factory):
    """A denoiser on a variance-preserving path, for the one solver that needs it."""
    folder = tmp_path_factory.mktemp("runs")
    path = ("scheduler=ddpm", "scheduler.predicts=x0", "predictor=none", "sampler=ddpm")
    trained(composed(*MODEL, *LOOPS, *path, f"runs={folder}", "run_name=vp"))
    return FinishedRun(Run(folder / "vp"), CPU)


def drawn(run, cfg, seeds=SEEDS, guidance_scale=1.0, batch_size=7):
    cond = conditions(run.assembly.data("test"), None, seeds)
    return run.sample(run.sampler(cfg, None), seeds, cond, guidance_scale, run.cfg["guidance"], batch_size)


def adaptive(run, draw):
    return {**run.cfg["sampler"], "draw": draw}


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("name", ["mode", "sample", "ddim", "euler", "heun", "dpmpp_2m", "unipc", "ddpm"])
def test_an_image_depends_on_its_seed_alone(name, guidance_scale, run, vp_run):
    """Not on the batch size, and not on the order."""
    fixed = name in names("sampler")
    run = vp_run if name == "ddpm" else run
    cfg = {"name": name, "num_steps": 5, "grid": UNIFORM} if fixed else adaptive(run, name)
    images, nfe = drawn(run, cfg, guidance_scale=guidance_scale)
    assert (images[0] - images[1]).abs().max() > 1e-2
    one_by_one, nfe_alone = drawn(run, cfg, guidance_scale=guidance_scale, batch_size=1)
    torch.testing.assert_close(one_by_one, images, atol=1e-5, rtol=0)
    backwards, _ = drawn(run, cfg, SEEDS[::-1], guidance_scale, batch_size=3)
    torch.testing.assert_close(backwards.flip(0), images, atol=1e-5, rtol=0)
    assert torch.equal(nfe, nfe_alone)


def test_drawn_times_differ_between_samples_and_from_the_mode(run):
    _, by_mode = drawn(run, adaptive(run, "mode"))
    images, by_draw = drawn(run, adaptive(run, "sample"))
    assert len(set(by_draw.tolist())) > 1
    assert not torch.equal(by_mode, by_draw)
    assert not torch.equal(images, drawn(run, adaptive(run, "mode"))[0])


def picture(path):
    return np.asarray(Image.open(path).convert("L")).astype(int)


@pytest.fixture
def png(finished, tmp_path):
    """png(*argv) -> the picture that `python -m tpdm.sample` draws, and the mean NFE it reports."""

    def png(*argv, seeds="0-3"):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        ended = command(sample.main, f"run={finished}", f"out={out}", f"seeds={seeds}", "grid=2x2", *argv)
        assert (ended.status, ended.err) == (0, "")
        said = re.fullmatch(r"(.*): \d+ images, mean NFE ([\d.]+)\n", ended.out)
        assert said[1] == str(out)
        return picture(out), float(said[2])

    return png


def test_the_picture_is_the_same_whatever_the_batch_size(png):
    (whole, nfe), (parts, nfe_parts) = png(), png("batch_size=3")
    assert nfe == nfe_parts
    assert abs(whole - parts).max() <= 1  # a value between two shades of grey


def test_seeds_are_a_number_a_range_or_a_list(png):
    several, _ = png(seeds="[5-7,2]")
    assert np.array_equal(several, png(seeds="[5,6,7,2]")[0])
    assert not np.array_equal(several, png(seeds="[2,5-7]")[0])


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "unipc"])
def test_any_sampler_takes_a_number_of_steps(name, png):
    assert png(f"sampler={name}", "steps=3")[1] == 3
    assert png(f"sampler={name}", "steps=3", "sampler/grid=karras")[1] == 3


def test_heun_calls_twice_but_for_its_last_step(png):
    assert png("sampler=heun", "steps=3")[1] == 5


@pytest.mark.parametrize(
    ("argv", "instead"),
    [
        ([], "sampler=adaptive gives each image its own number; use max_nfe=5, which no image exceeds, or a"),
        (["sampler=allocated", "sampler.path=x"], "use max_nfe=5, which no image exceeds, or a mean, nfe=5"),
        (["sampler=error_controlled"], "use sampler.tolerance="),
    ],
)
def test_steps_are_of_grids(argv, instead, finished):
    """A predictor that is cut off would end by a leap."""
    refused(command(sample.main, f"run={finished}", "steps=5", *argv), instead)


def test_steps_cut_off_who_may_end_before_the_data():
    published = {"name": "adaptive", "max_steps": 28, "end": "residual"}
    assert with_steps(published, 9) == {**published, "max_steps": 9}
    assert with_steps(published, None) == published


@pytest.mark.parametrize("name", ["static", "error_controlled"])
def test_what_is_drawn_by_a_run_takes_the_runs_step(name, run, composed):
    """The one that schedules are searched for; unless another is chosen."""
    settings = composed(f"sampler={name}", config="sample")["sampler"]
    assert run.sampler(settings, None).step.func is abm
    stepped = composed("sampler/step=ab2")["sampler"]
    with patch.dict(run.cfg, {"sampler": stepped}):
        assert run.sampler(settings, None).step.func is ab2
        assert (
            run.sampler(composed(f"sampler={name}", "sampler/step=ddim")["sampler"], None).step.func is ddim
        )
    with patch.dict(run.cfg, {"sampler": {"name": "euler", "num_steps": 3, "grid": UNIFORM}}):
        assert run.sampler(settings, None).step is abm


def test_guidance_weights_and_predictor_are_choices(png, finished):
    base, _ = png("sampler=euler", "steps=4")
    assert np.array_equal(base, png("sampler=euler", "steps=4", "guidance_scale=1")[0])
    assert not np.array_equal(base, png("sampler=euler", "steps=4", "guidance_scale=2")[0])
    assert not np.array_equal(base, png("sampler=euler", "steps=4", "ema=false")[0])
    assert np.array_equal(png()[0], png(f"predictor_folder={finished / 'predictor'}")[0])
    assert not np.array_equal(png()[0], png(f"predictor_folder={finished / 'time_only'}")[0])


def test_every_image_gets_its_own_labels(png):
    """Guidance makes the little that six steps have taught of them visible."""
    strong = ("guidance_scale=30", "sampler=euler", "steps=4")
    one = [png(f"labels={row}", *strong)[0] for row in ("[3,-,-,7]", "[-,empty,1,1]")]
    assert not np.array_equal(*one)
    both, _ = png("labels=[[3,-,-,7],[3,-,-,7],[-,-,1,1],[-,-,1,1]]", *strong)
    height = len(both) // 2
    assert np.array_equal(both[:height], one[0][:height])
    assert np.array_equal(both[height + 6 :], one[1][height + 6 :])


def test_without_an_address_the_picture_lies_in_the_run(finished):
    ended = command(sample.main, f"run={finished}", "seeds=1", "sampler=euler", "steps=1")
    assert ended.out == f"{finished}/sample_euler.png: 1 images, mean NFE 1.00\n"
    (finished / "sample_euler.png").unlink()


@pytest.mark.parametrize(
    ("seeds", "counted_out"),
    [(7, [7]), ("7", [7]), ("0-3", [0, 1, 2, 3]), ("1,5, 8-9", [1, 5, 8, 9]), ([4, "8-9"], [4, 8, 9])],
)
def test_seeds_are_read(seeds, counted_out):
    assert [seed for span in parse_seeds(seeds) for seed in span] == counted_out


@pytest.mark.parametrize("seeds", ["", "a", "3-1", "1,,2", "-1", "0-", "1.5", []])
def test_other_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match=r"seeds=.* is not understood; accepted: 7, 0-63 or"):
        parse_seeds(seeds)


def test_a_grid_is_rows_by_columns_and_has_room():
    assert parse_grid("2x5", 10) == 5
    with pytest.raises(ValueError, match="grid=2x2 has room for 4 images, but seeds asks for 5"):
        parse_grid("2x2", 5)
    for grid in ("8", "x", "0x3", "2X2", "2x2x2", "-1x-1"):
        with pytest.raises(ValueError, match="is not understood; accepted: ROWSxCOLUMNS"):
            parse_grid(grid, 1)
