"""The pipeline that anyone can call, on tiny ones in the published layout, against diffusers' own."""

import json
from dataclasses import asdict

import accelerate
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from huggingface_hub import constants

from tests.hub import Hub
from tests.pipelines import SD35, save_pipeline
from tests.predictor.test_official import published as official_weights
from tests.reference import reference_draws
from tpdm.pipeline import TPDMPipeline
from tpdm.predictor.budget import Budget
from tpdm.predictor.vit import ViTPredictor
from tpdm.published_pipeline import SAMPLER
from tpdm.runtime.artifact import save_artifact
from tpdm.types import CostRange, FeatureSpec

CPU = torch.device("cpu")
SPEC = FeatureSpec(16, 16, None, (4, 4))
CHOICES = {
    "name": "vit", "width": 16, "depth": 1, "num_heads": 2, "patch_size": 1, "patch_embedding": "linear",
    "mlp_ratio": 2.0, "dropout": 0.0, "attention_dropout": 0.0, "time": "log_t", "time_width": 16,
    "text": "none", "projection_width": None, "init_logits": [0.4, 0.6], "logit_cap": 4.0, "epsilon": 1.0,
}  # fmt: skip
ASKED = {"height": 32, "width": 32, "max_sequence_length": 16, "output_type": "latent"}


def save_predictor(folder, spec=SPEC, budget=None):
    torch.manual_seed(0)
    sizes = {key: value for key, value in CHOICES.items() if key != "name"}
    predictor = ViTPredictor(**sizes, features=spec, costs=budget and budget.costs)
    config = {"predictor": CHOICES, "features": vars(spec), "denoiser": "of nobody"}
    config |= {} if budget is None else {"budget": asdict(budget)}
    save_artifact(folder, config, predictor.state_dict())
    return folder


@pytest.fixture(scope="module", params=["sd3", "sd35"])
def folders(request, tmp_path_factory):
    base = tmp_path_factory.mktemp(request.param)
    save_pipeline(base / "pipe", **(SD35 if request.param == "sd35" else {}))
    return base / "pipe", save_predictor(base / "predictor")


@pytest.fixture
def pipe(folders):
    return TPDMPipeline.from_pretrained(folders[0], predictor=folders[1])


def noise(count=1, seed=0):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_diffusers_draws_the_same_along_the_same_times(pipe, folders):
    """One image, whose times are a list of sigmas for a scheduler without a shift."""
    pipe.settings["step"] = {"name": "ddim"}
    words = {"prompt": "a red cat", "negative_prompt": "the dog", "guidance_scale": 4.0}
    answer = pipe(max_steps=6, latents=noise(), **words, **ASKED)
    theirs = StableDiffusion3Pipeline.from_pretrained(
        folders[0], scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0)
    )
    expected = theirs(sigmas=answer.times[0][:-1].tolist(), latents=noise(), **words, **ASKED).images
    torch.testing.assert_close(answer.images, expected, atol=5e-4, rtol=1e-3)
    assert answer.nfe.tolist() == [len(answer.times[0]) - 1]
    assert (answer.times[0][0], answer.times[0][-1]) == (1, 0)


def test_images_do_not_depend_on_their_batch_and_each_has_its_own_negative_prompt(pipe):
    prompts, negatives = ["a red cat", "the mountains"], ["the dog", ""]
    both = pipe(prompts, negative_prompt=negatives, latents=noise(2), **ASKED)
    for row in range(2):
        alone = pipe(prompts[row], negative_prompt=negatives[row], latents=noise(2)[row : row + 1], **ASKED)
        torch.testing.assert_close(alone.images[0], both.images[row], atol=1e-4, rtol=1e-3)
        assert alone.nfe[0] == both.nfe[row]
    other = pipe(prompts, negative_prompt=["", ""], latents=noise(2), **ASKED)
    assert not torch.allclose(other.images[0], both.images[0], atol=1e-3)
    torch.testing.assert_close(other.images[1], both.images[1], atol=1e-4, rtol=1e-3)


def test_a_generator_fixes_the_images_and_several_come_of_a_prompt(pipe):
    asked = {**ASKED, "output_type": "pt", "num_images_per_prompt": 2, "max_steps": 4}
    first, second = (pipe("a cat", generator=torch.Generator().manual_seed(3), **asked) for _ in range(2))
    assert first.images.shape == (2, 3, 32, 32)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images[0], first.images[1])
    assert (first.nfe <= 4).all()
    pictures = pipe("a cat", **{**asked, "output_type": "pil"}).images
    assert [picture.size for picture in pictures] == [(32, 32)] * 2


def test_embeddings_stand_for_prompts(pipe):
    tokens, null, pooled, null_pooled = pipe.pipe.encode_prompt("a cat", None, None, max_sequence_length=16)
    given = {
        "prompt_embeds": tokens, "negative_prompt_embeds": null,
        "pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": null_pooled,
    }  # fmt: skip
    expected = pipe("a cat", latents=noise(), **ASKED).images
    torch.testing.assert_close(pipe(latents=noise(), **given, **ASKED).images, expected)


def test_a_callback_hears_of_every_step_and_may_change_the_samples(pipe):
    heard = []

    def callback(pipeline, step, timestep, values):
        heard.append((step, timestep.item()))
        return {"latents": values["latents"] * (0 if step == 2 else 1)}

    answer = pipe("a cat", latents=noise(), max_steps=3, callback_on_step_end=callback, **ASKED)
    assert [step for step, _ in heard] == list(range(int(answer.nfe)))
    torch.testing.assert_close(torch.tensor([t / 1000 for _, t in heard]), answer.times[0][:-1])
    assert (answer.images == 0).all() == (answer.nfe == 3)


def test_it_is_saved_with_its_card_and_found_again(pipe, tmp_path):
    pipe.figures = {"reward": "1.5 +- 0.1"}
    pipe.save_pretrained(tmp_path / "saved")
    again = TPDMPipeline.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(
        again("a cat", latents=noise(), **ASKED).images, pipe("a cat", latents=noise(), **ASKED).images
    )
    assert again.figures == pipe.figures
    assert "| reward | 1.5 +- 0.1 |" in (tmp_path / "saved" / "README.md").read_text()
    assert json.loads((tmp_path / "saved" / "tpdm.json").read_text())["sampler"] == SAMPLER


def by_layers(pipe):
    """What `enable_sequential_cpu_offload` does with diffusers' networks; transformers' CLIP does not bear it
    on a CPU, in diffusers' own pipeline either."""
    for network in (pipe.pipe.transformer, pipe.pipe.vae):
        accelerate.cpu_offload(network, CPU)
    assert all(weight.is_meta for weight in pipe.pipe.transformer.parameters())  # nothing lies in it


OFFLOADED = {
    "models": lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    "layers": by_layers,
    "groups": lambda pipe: pipe.enable_group_offload(onload_device=CPU, offload_type="leaf_level"),
}


@pytest.mark.parametrize("how", OFFLOADED)
def test_offloaded_networks_draw_the_same_and_are_read_all_the_same(how, pipe, folders):
    """Those hooks take the place of each forward; ours on the transformer's parts stay where they are."""
    words = {"prompt": "a red cat", "negative_prompt": "the dog", "max_steps": 3, "latents": noise()}
    expected = pipe(**words, **{**ASKED, "output_type": "pt"})
    away = TPDMPipeline.from_pretrained(folders[0], predictor=folders[1])
    OFFLOADED[how](away)
    layer = away.pipe.transformer if how == "models" else away.pipe.transformer.proj_out
    assert hasattr(layer, "_diffusers_hook" if how == "groups" else "_hf_hook")
    for _ in range(2):
        answer = away(**words, **{**ASKED, "output_type": "pt"})
        torch.testing.assert_close(answer.images, expected.images)
        assert torch.equal(answer.nfe, expected.nfe)


def test_every_output_type_is_the_same_picture(pipe):
    latents, pt, array, pil = (
        pipe("a cat", latents=noise(), max_steps=2, **{**ASKED, "output_type": kind}).images
        for kind in ("latent", "pt", "np", "pil")
    )
    vae = pipe.pipe.vae
    with torch.no_grad():
        decoded = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
    torch.testing.assert_close(pt, (decoded / 2 + 0.5).clamp(0, 1))
    torch.testing.assert_close(torch.from_numpy(array).permute(0, 3, 1, 2), pt)
    assert np.array_equal(np.asarray(pil[0]), (255 * array[0]).round().astype(np.uint8))


def test_it_is_pushed_whole_and_comes_back(pipe, tmp_path, monkeypatch):
    """By the hub's own client, to a server that keeps what a commit holds."""
    pipe.figures = {"reward": "1.5 +- 0.1"}
    with Hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        assert pipe.push_to_hub("me/mine", private=True).endswith("me/mine")
    assert hub.created == {"name": "mine", "organization": "me", "visibility": "private"}
    pipe.save_pretrained(tmp_path / "saved")
    saved = {f.relative_to(tmp_path / "saved").as_posix(): f for f in (tmp_path / "saved").rglob("*")}
    assert hub.files == {name: file.read_bytes() for name, file in saved.items() if file.is_file()}
    for name, content in hub.files.items():
        (tmp_path / "back" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "back" / name).write_bytes(content)
    again = TPDMPipeline.from_pretrained(tmp_path / "back")
    assert again.figures == pipe.figures
    torch.testing.assert_close(
        again("a cat", latents=noise(), **ASKED).images, pipe("a cat", latents=noise(), **ASKED).images
    )


def test_a_budget_is_asked_for_and_a_cap_kept(folders, pipe, tmp_path):
    budget = Budget(CostRange(1e-4, 1.0), [1e-4, 1.0], [20.0, 3.0])
    kept = save_predictor(tmp_path / "budgeted", budget=budget)
    TPDMPipeline.from_pretrained(folders[0], predictor=kept).save_pretrained(tmp_path / "saved")
    told = TPDMPipeline.from_pretrained(tmp_path / "saved")
    short, middle, long = (
        int(told("a cat", latents=noise(), **asked, **ASKED).nfe) for asked in ({"nfe": 3}, {}, {"nfe": 20})
    )
    assert short < middle < long
    assert told("a cat", latents=noise(), cost=1.0, **ASKED).nfe == short
    assert told("a cat", latents=noise(), nfe=20, max_nfe=short, **ASKED).nfe == short
    assert pipe("a cat", latents=noise(), max_nfe=2, **ASKED).nfe == 2
    with pytest.raises(ValueError, match=r"nfe=3 asks for a budget, and this predictor was trained at one"):
        pipe("a cat", latents=noise(), nfe=3, **ASKED)


def test_what_does_not_fit_is_named(folders, pipe, tmp_path):
    other = save_predictor(tmp_path / "other", FeatureSpec(24, 24, None, (4, 4)))
    with pytest.raises(ValueError, match="reads features of width 24, and the transformer's have 16"):
        TPDMPipeline.from_pretrained(folders[0], predictor=other)
    with pytest.raises(ValueError, match="images of 2x2 tokens were asked for, and the predictor was"):
        pipe("a cat", **{**ASKED, "height": 16, "width": 16})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"path=.*empty has no model_index\.json"):
        TPDMPipeline.from_pretrained(tmp_path / "empty", predictor=folders[1])


def test_the_published_predictor_draws_as_the_reference_does(folders, tmp_path):
    state = official_weights(width=16)
    torch.save(
        {f"agent_model.time_predictor.{name}": x for name, x in state.items()}, tmp_path / "official.pt"
    )
    pipe = TPDMPipeline.from_official(folders[0], tmp_path / "official.pt", token_order="folded")
    answer = pipe("a red cat", latents=noise(), max_steps=9, guidance_scale=7.0, **ASKED)
    x, count = reference_draws(folders[0], state, "a red cat", noise(), max_steps=9)
    assert answer.nfe.tolist() == count
    torch.testing.assert_close(answer.images, x, atol=1e-3, rtol=1e-2)


def test_a_predictor_without_a_config_draws_as_the_default_sampler_does(composed):
    assert composed()["sampler"] == SAMPLER
