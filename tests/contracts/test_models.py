"""What holds for every preset of a model with every block, cut down to a width and depth that fit a test."""

import pytest
import torch
import yaml

from tests.scheduler.paths import path
from tests.tiny import scrambled
from tpdm.cli import config_dir
from tpdm.denoiser import Denoiser, Guided
from tpdm.registry import build
from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.types import CondSpec, DataShape

SHAPE, COND = DataShape(2, 16, 16), CondSpec(slots=2, symbols=3)
MODELS = sorted(file.stem for file in (config_dir() / "model").glob("*.yaml"))
BLOCKS = sorted(file.stem for file in (config_dir() / "model" / "block").glob("*.yaml"))


@pytest.fixture(params=MODELS, scope="module")
def preset(request, composed):
    return composed(f"model={request.param}")["model"]


@pytest.fixture(params=BLOCKS, scope="module")
def block(request):
    return yaml.safe_load((config_dir() / "model" / "block" / f"{request.param}.yaml").read_text())


@pytest.fixture(scope="module")
def cfg(preset, block):
    """Every preset with every block."""
    return smaller(preset, block)


@pytest.fixture(scope="module")
def each_block(composed, block):
    """The default with every block."""
    return smaller(composed()["model"], block)


def smaller(preset, block):
    return preset | {"width": 4 * preset["num_heads"], "depth": 2, "block": block}


def made(cfg, **facts):
    torch.manual_seed(0)
    return build("model", cfg, **{"shape": SHAPE, "cond": COND, "outputs": 1} | facts)


def inputs(count=3):
    generator = torch.Generator().manual_seed(0)
    cond = torch.randint(COND.symbols, (count, COND.slots), generator=generator)
    return (
        torch.randn(count, *SHAPE, generator=generator),
        1000 * torch.rand(count, generator=generator),
        cond,
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_shapes_are_those_it_names_beforehand(cfg, outputs):
    model = made(cfg, outputs=outputs)
    raw, features = model(*inputs())
    spec = model.features
    assert raw.shape == (3, outputs * 2, 16, 16)
    assert features.first.shape == features.last.shape == (3, spec.hw[0] * spec.hw[1], spec.width)
    assert features.temb.shape == (3, spec.temb_width)
    assert features.text.shape == (3, COND.slots, spec.text_width)
    assert features.hw == spec.hw


def test_a_full_size_preset_fits_the_data(preset):
    with torch.device("meta"):
        raw, _ = made(preset)(
            torch.empty(1, *SHAPE), torch.empty(1), torch.empty(1, COND.slots, dtype=torch.long)
        )
    assert raw.shape == (1, *SHAPE)


def test_gradients_reach_every_parameter(cfg):
    model = scrambled(made(cfg)).eval()
    x, timestep, _ = inputs(COND.symbols + 1)
    every_label = torch.arange(COND.symbols + 1)[:, None].expand(-1, COND.slots)
    model(x, timestep, every_label)[0].square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_answer_depends_on_the_state_the_time_and_every_label(cfg):
    model, (x, timestep, cond) = scrambled(made(cfg)).eval(), inputs()
    raw = model(x, timestep, cond)[0]
    other = (cond + 1) % COND.symbols
    changed = [
        (x + 0.1, timestep, cond),
        (x, timestep + 50, cond),
        (x, timestep, torch.stack([other[:, 0], cond[:, 1]], 1)),
        (x, timestep, torch.stack([cond[:, 0], other[:, 1]], 1)),
    ]
    assert not any(torch.allclose(model(*args)[0], raw, atol=1e-4) for args in changed)


def test_a_sample_does_not_know_its_batch(each_block):
    model, args = scrambled(made(each_block)).eval(), inputs()
    raw, features = model(*args)
    for b in range(3):
        alone, its_features = model(*(value[b : b + 1] for value in args))
        torch.testing.assert_close(alone[0], raw[b], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(its_features.last[0], features.last[b], atol=1e-5, rtol=1e-5)


def test_guidance_of_one_is_no_guidance(each_block):
    denoiser, (x, timestep, cond) = Denoiser(scrambled(made(each_block)).eval(), path("flow")), inputs()
    guided = Guided(denoiser, 1.0, null_cond=torch.full((1, COND.slots), COND.symbols))
    got, expected = (d(x, timestep / 1000, cond)[:2] for d in (guided, denoiser))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_its_weights_are_kept_in_a_file(each_block, tmp_path):
    model = scrambled(made(each_block)).eval()
    save_artifact(tmp_path / "model", each_block, model.state_dict())
    config, state = load_artifact(tmp_path / "model")
    again = made(config).eval()
    again.load_state_dict(state)
    assert torch.equal(again(*inputs())[0], model(*inputs())[0])


def test_it_runs_in_bfloat16_as_weights_and_under_autocast(each_block):
    exact = scrambled(made(each_block)).eval()(*inputs())[0]
    half = scrambled(made(each_block)).bfloat16().eval()(*inputs())[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = scrambled(made(each_block)).eval()(*inputs())[0]
    for raw in (half, mixed):
        assert (raw.float() - exact).norm() < 0.05 * exact.norm()
