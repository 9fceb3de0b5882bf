"""What holds for every preset of a model, with every block and every kind of condition that it reads.

Presets are cut down to a width and depth that fit a test.
"""

import pytest
import torch
import yaml

from tests.scheduler.paths import path
from tests.tiny import scrambled
from tpdm.cli import config_dir
from tpdm.denoiser import Denoiser, Guided
from tpdm.nn.blocks import blocks, recompute
from tpdm.registry import build
from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.runtime.size import saved_bytes
from tpdm.types import CondSpec, DataShape, Text, TextSpec

SHAPE = DataShape(2, 16, 16)
LABELS, CAPTIONS = CondSpec(slots=2, symbols=3), TextSpec(pooled_width=6, token_width=5, max_tokens=3)
MODELS = sorted(  # of networks that are trained; what is ready-made has tests of its own
    file.stem
    for file in (config_dir() / "model").glob("*.yaml")
    if not file.stem.startswith(("sd3", "mixture"))
)
BLOCKS = sorted(file.stem for file in (config_dir() / "model" / "block").glob("*.yaml"))
READS = {"tld": [CAPTIONS], "unet": [LABELS, CAPTIONS]}  # by the first word of a preset
VARIANTS = [
    (name, block, cond)
    for name in MODELS
    for block in (BLOCKS if name.split("_")[0] == "dit" else [None])
    for cond in READS.get(name.split("_")[0], [LABELS])
]


@pytest.fixture(params=VARIANTS, scope="module", ids=lambda v: f"{v[0]}-{v[1]}-{type(v[2]).__name__}")
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def cond(variant):
    return variant[2]


@pytest.fixture(scope="module")
def preset(variant, composed):
    name, block, _ = variant
    cfg = composed(f"model={name}")["model"]
    return cfg if block is None else cfg | {"block": block_config(block)}


@pytest.fixture(scope="module")
def cfg(preset):
    smaller = {"width": 4 * preset["num_heads"], "depth": 2, "base_width": 8}
    return preset | {key: size for key, size in smaller.items() if key in preset}


def block_config(name):
    return yaml.safe_load((config_dir() / "model" / "block" / f"{name}.yaml").read_text())


def made(cfg, cond, outputs=1):
    torch.manual_seed(0)
    return build("model", cfg, shape=SHAPE, cond=cond, outputs=outputs)


def conditions(cond, count, generator=None):
    """Labels, or captions of which each is shorter than the one before."""
    if cond is LABELS:
        return torch.randint(cond.symbols, (count, cond.slots), generator=generator)
    tokens = torch.randn(count, cond.max_tokens, cond.token_width, generator=generator)
    length = cond.max_tokens - torch.arange(count) % cond.max_tokens
    mask = torch.arange(cond.max_tokens) < length[:, None]
    return Text(torch.randn(count, cond.pooled_width, generator=generator), tokens, mask)


def inputs(cond, count=3):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, *SHAPE, generator=generator),
        1000 * torch.rand(count, generator=generator),
        conditions(cond, count, generator),
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_shapes_are_those_it_names_beforehand(cfg, cond, outputs):
    model = made(cfg, cond, outputs)
    raw, features = model(*inputs(cond))
    spec = model.features
    assert raw.shape == (3, outputs * 2, 16, 16)
    assert features.first.shape == features.last.shape == (3, spec.hw[0] * spec.hw[1], spec.width)
    assert features.temb.shape == (3, spec.temb_width)
    assert features.text.shape == (3, features.text.shape[1], spec.text_width)
    assert features.hw == spec.hw


def test_a_full_size_preset_fits_the_data(preset, cond):
    with torch.device("meta"):
        raw, _ = made(preset, cond)(torch.empty(1, *SHAPE), torch.empty(1), conditions(cond, 1))
    assert raw.shape == (1, *SHAPE)


def test_gradients_reach_every_parameter(cfg, cond):
    model = scrambled(made(cfg, cond)).eval()
    x, timestep, some = inputs(cond, LABELS.symbols + 1)
    every_label = torch.arange(LABELS.symbols + 1)[:, None].expand(-1, LABELS.slots)
    model(x, timestep, every_label if cond is LABELS else some)[0].square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def others(cond):
    """The condition with one label changed, for each slot; or with every caption changed."""
    if isinstance(cond, Text):
        return [cond.map(lambda value: value if value.dtype == torch.bool else value + 1)]
    other = (cond + 1) % LABELS.symbols
    return [torch.stack([other[:, 0], cond[:, 1]], 1), torch.stack([cond[:, 0], other[:, 1]], 1)]


def test_the_answer_depends_on_the_state_the_time_and_the_whole_condition(cfg, cond):
    model, (x, timestep, given) = scrambled(made(cfg, cond)).eval(), inputs(cond)
    raw = model(x, timestep, given)[0]
    changed = [(x + 0.1, timestep, given), (x, timestep + 50, given)]
    changed += [(x, timestep, other) for other in others(given)]
    assert not any(torch.allclose(model(*args)[0], raw, atol=1e-4) for args in changed)


def test_a_sample_does_not_know_its_batch(cfg, cond):
    model, args = scrambled(made(cfg, cond)).eval(), inputs(cond)
    raw, features = model(*args)
    for b in range(3):
        alone, its_features = model(*(value[b : b + 1] for value in args))
        torch.testing.assert_close(alone[0], raw[b], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(its_features.last[0], features.last[b], atol=1e-5, rtol=1e-5)


def test_guidance_of_one_is_no_guidance(cfg, cond):
    denoiser, (x, timestep, given) = Denoiser(scrambled(made(cfg, cond)).eval(), path("flow")), inputs(cond)
    guided = Guided(denoiser, 1.0, null_cond=conditions(cond, 1))
    got, expected = (d(x, timestep / 1000, given)[:2] for d in (guided, denoiser))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_its_weights_are_kept_in_a_file(cfg, cond, tmp_path):
    model = scrambled(made(cfg, cond)).eval()
    save_artifact(tmp_path / "model", cfg, model.state_dict())
    config, state = load_artifact(tmp_path / "model")
    again = made(config, cond).eval()
    again.load_state_dict(state)
    assert torch.equal(again(*inputs(cond))[0], model(*inputs(cond))[0])


def test_it_runs_in_bfloat16_as_weights_and_under_autocast(cfg, cond):
    exact = scrambled(made(cfg, cond)).eval()(*inputs(cond))[0]
    half = scrambled(made(cfg, cond)).bfloat16().eval()(*inputs(cond))[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = scrambled(made(cfg, cond)).eval()(*inputs(cond))[0]
    for raw in (half, mixed):
        assert (raw.float() - exact).norm() < 0.05 * exact.norm()


def test_recomputed_blocks_have_the_same_gradients_and_keep_less(cfg, cond):
    kept, gradients = [], []
    for again in (False, True):
        model, args = scrambled(made(cfg, cond)).train(), inputs(cond)
        for block in blocks(model) if again else []:
            recompute(block)
        kept.append(saved_bytes(model, lambda model=model, args=args: model(*args)))
        torch.manual_seed(0)  # of dropped labels
        model(*args)[0].square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert kept[1] < 0.8 * kept[0]
    torch.testing.assert_close(gradients[1], gradients[0])
