"""SD3 and SD3.5 from tiny pipelines in the published layout, against diffusers' own pipeline."""

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from tests.pipelines import SD35, save_pipeline
from tpdm.codec.sd3_text import SD3Text
from tpdm.denoiser import Denoiser, guided
from tpdm.model.pretrained import SD3
from tpdm.sampler.integrate import follow, integrate
from tpdm.sampler.step import ddim
from tpdm.scheduler.flow import Flow
from tpdm.types import CondSpec, DataShape, TextSpec

SHAPE, COND = DataShape(4, 8, 8), TextSpec(16, 20, 93)


@pytest.fixture(scope="module", params=["sd3", "sd35"])
def folder(request, tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp(request.param), **(SD35 if request.param == "sd35" else {}))


def backbone_of(folder, shape=SHAPE, cond=COND, dtype="float32", lora=None):
    return SD3(str(folder), dtype, lora, shape=shape, cond=cond)


def text_of(folder):
    return SD3Text(str(folder), 16, 2, "float32", None)


@torch.no_grad()
def test_with_the_pipelines_times_it_draws_what_the_pipeline_draws(folder):
    """Guided, by Euler's method, from the same noise."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    prompts = ["a red cat", "the mountains"]
    expected = pipeline(
        prompts, num_inference_steps=4, guidance_scale=5.0, latents=noise, output_type="latent",
        max_sequence_length=16, height=32, width=32,
    ).images  # fmt: skip

    text = text_of(folder)
    denoiser = guided(Denoiser(backbone_of(folder), Flow(3.0, "velocity")), 5.0, null_cond=text.null)
    times = pipeline.scheduler.sigmas.expand(2, -1)
    assert (times[0, 0], times[0, -1], times.shape[1]) == (1, 0, 5)
    drawn = integrate(denoiser, noise, text(prompts), follow(times), ddim, max_steps=4)
    torch.testing.assert_close(drawn.x0, expected, atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_its_features_are_what_the_network_held(folder):
    backbone = backbone_of(folder)
    network = SD3Transformer2DModel.from_pretrained(folder / "transformer").eval()
    text, x, timestep = text_of(folder)(["a dog"]), torch.randn(1, *SHAPE), torch.tensor([500.0])
    _, features = backbone(x, timestep, text)
    assert (features.first.shape[-1], features.temb.shape[-1]) == (
        backbone.features.width,
        backbone.features.temb_width,
    )
    assert features.hw == backbone.features.hw == (4, 4)
    torch.testing.assert_close(features.first, network.pos_embed(x))
    torch.testing.assert_close(features.temb, network.time_text_embed(timestep, text.pooled))
    raw = network(x, text.tokens, text.pooled, timestep).sample
    patches = network.proj_out(features.last).unflatten(1, (4, 4)).unflatten(-1, (2, 2, 4))  # h w p q c
    torch.testing.assert_close(patches.permute(0, 5, 1, 3, 2, 4).reshape(raw.shape), raw)


def test_nothing_of_it_is_trained_or_saved_but_its_fingerprint(folder, tmp_path):
    backbone = backbone_of(folder, dtype="bfloat16")
    raw, _ = backbone(torch.randn(1, *SHAPE), torch.tensor([500.0]), text_of(folder)(["a dog"]))
    assert raw.dtype == torch.bfloat16
    assert list(backbone.parameters()) == []
    assert list(backbone.state_dict()) == ["_extra_state"]
    backbone_of(folder).load_state_dict(backbone.state_dict())
    other = save_pipeline(tmp_path / "other", num_layers=1)
    with pytest.raises(ValueError, match="has other weights now than when this was trained"):
        backbone_of(other).load_state_dict(backbone.state_dict())


@torch.no_grad()
def test_a_lora_is_added_to_the_weights(folder, tmp_path):
    torch.manual_seed(0)
    network = SD3Transformer2DModel.from_pretrained(folder / "transformer").eval()
    network.add_adapter(
        LoraConfig(r=2, lora_alpha=6, init_lora_weights=False, target_modules=["to_q", "to_v"])
    )
    layers = get_peft_model_state_dict(network)
    about = network.peft_config["default"].to_dict()
    StableDiffusion3Pipeline.save_lora_weights(
        tmp_path / "lora", transformer_lora_layers=layers, transformer_lora_adapter_metadata=about
    )
    text, x, timestep = text_of(folder)(["a dog"]), torch.randn(1, *SHAPE), torch.tensor([500.0])
    expected = network(x, text.tokens, text.pooled, timestep).sample
    plain, _ = backbone_of(folder)(x, timestep, text)
    changed, _ = backbone_of(folder, lora=str(tmp_path / "lora"))(x, timestep, text)
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(changed, plain, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": DataShape(16, 8, 8)}, "latents of 4 channels, and the codec makes 16; use codec=sd3"),
        ({"shape": DataShape(4, 8, 20)}, "data.size makes latents of 8x20; .* multiples of 2 up to 16"),
        ({"cond": CondSpec(1, 10)}, "reads captions, but data gives labels; use data=prompts"),
        ({"cond": TextSpec(16, 8, 77)}, r"of widths \(16, 20\), and codec/text answers in \(16, 8\)"),
        ({"lora": "nowhere"}, r"model\.lora=nowhere has no \.safetensors"),
    ],
)
def test_what_does_not_fit_is_named(change, message, folder):
    with pytest.raises(ValueError, match=message):
        backbone_of(folder, **change)


def test_a_missing_part_of_the_pipeline_is_named(tmp_path):
    told = r"model\.path=.* has no transformer/config\.json; expected there: .*transformer/\*\.safetensors"
    with pytest.raises(ValueError, match=told):
        backbone_of(tmp_path)
