"""Every file of conf/ against the signature it configures, in both directions."""

import inspect

import pytest

from tpdm.benchmark import Settings as BenchmarkSettings
from tpdm.cli import config_dir
from tpdm.evaluate import Settings as EvaluateSettings
from tpdm.registry import Component, choices, lookup, names, validate
from tpdm.sample import Settings as SampleSettings
from tpdm.train import Settings

FILES = sorted(
    (file.parent.relative_to(config_dir()).as_posix(), file.stem)
    for file in config_dir().glob("*/**/*.yaml")
    if file.parent.name != "hydra"
)
PUBLISHED = ("image_reward", "pick_score", "clip_score", "hpsv2", "aesthetic")  # rewards with weights
CAPTIONS = ["data=digit_captions", "model=unet"]
REACHED_BY = {
    "search": ["run=somewhere"],
    "arena": ["run=somewhere", "suite=arena"],
    ("suite", "arena"): ["run=somewhere"],
    "sampler/grid": ["sampler=euler"],
    "predictor/arch": ["predictor=hybrid"],
    ("sampler/grid", "respaced"): ["scheduler=ddpm"],
    ("sampler/grid", "learned"): ["sampler.grid.path=grid.json"],
    ("sampler", "allocated"): ["sampler.path=nowhere"],
    ("predictor", "official"): ["predictor.path=nowhere"],
    ("codec", "sd3"): ["model=sd3", "model.path=nowhere"],
    ("codec/text", "sd3"): ["model=sd3", "model.path=nowhere"],
    ("model", "sd3"): ["model.path=nowhere"],
    ("model", "sd35_medium"): ["model.path=nowhere"],
    ("model", "sd35_large"): ["model.path=nowhere"],
    ("data", "folder"): ["data.path=images"],
    ("data", "imagenet_latents"): ["dry_run=true"],
    ("data", "mnist"): ["data.path=mnist"],
    ("data", "mixture"): ["model=mixture"],
    ("data", "latents"): ["data.path=latents"],
    ("data", "webdataset"): ["data.path=shards.tar"],
    ("data", "prompts"): ["data.path=prompts.txt", "model=unet", "codec/text=transformer_text"],
    ("data", "celeba"): ["data.path=images", "data.attributes=list.txt"],
    ("codec", "sd_vae"): ["codec.path=nowhere"],
    ("codec/text", "transformer_text"): CAPTIONS,
    ("codec/text", "clip"): [*CAPTIONS, "codec.text.path=nowhere"],
    ("codec/text", "t5"): [*CAPTIONS, "codec.text.path=nowhere"],
    ("data", "digit_captions"): ["model=unet", "codec/text=transformer_text"],
    ("model", "tld"): ["data=digit_captions", "codec/text=transformer_text"],
    ("model", "tld_small"): ["data=digit_captions", "codec/text=transformer_text"],
    ("trainer", "codec"): ["trainer@codec_trainer=codec"],
    **{("reward", name): ["reward.path=nowhere"] for name in PUBLISHED},
    ("trainer", "predictor"): ["trainer@predictor_trainer=predictor"],
}
GROUPS = sorted({group for group, _ in FILES} - {"predictor/arch"})
COMPONENTS = [(group, name) for group in GROUPS for name in names(group)]


class Searching(EvaluateSettings):
    """A command that looks for schedules."""

    search: Component


PLACES = {"search": "+search", "arena": "+arena@suite.contestants.tried"}
ELSEWHERE = {  # than in the config of train
    "suite": ("benchmark", BenchmarkSettings),
    ("suite", "arena"): ("evaluate", EvaluateSettings),
    "search": ("evaluate", Searching),
    "arena": ("evaluate", EvaluateSettings),
}


@pytest.mark.parametrize(("group", "name"), FILES)
def test_a_file_says_all_that_its_component_asks_and_no_more(group, name, composed):
    overrides = [*REACHED_BY.get(group, []), *REACHED_BY.get((group, name), [])]
    if not any("@" in override for override in overrides):
        overrides.append(f"{PLACES.get(group, group)}={name}")
    config, schema = ELSEWHERE.get((group, name)) or ELSEWHERE.get(group, ("train", Settings))
    validate(composed(*overrides, config=config), schema)


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_component_has_a_file_and_no_default_that_the_file_cannot_see(group, name):
    assert (group, name) in FILES
    component = lookup(group, name)
    parameters = inspect.signature(component).parameters
    for choice, annotation in choices(component).items():
        assert parameters[choice].default is inspect.Parameter.empty
        assert annotation is not inspect.Parameter.empty


@pytest.mark.parametrize(("config", "schema"), [("sample", SampleSettings), ("evaluate", EvaluateSettings)])
def test_the_other_commands_compose(config, schema, composed):
    validate(composed("run=somewhere", config=config), schema)


def test_sampling_takes_any_sampler(composed):
    for name in names("sampler"):
        validate(composed("run=somewhere", f"sampler={name}", config="sample"), SampleSettings)


@pytest.mark.parametrize(
    ("size", "width", "depth", "num_heads"),
    [("s", 384, 12, 6), ("b", 768, 12, 12), ("l", 1024, 24, 16), ("xl", 1152, 28, 16)],
)
@pytest.mark.parametrize("patch_size", [2, 4, 8])
def test_dit_presets_are_the_sizes_of_the_paper(size, width, depth, num_heads, patch_size, composed):
    model = composed(f"model=dit_{size}{patch_size}")["model"]
    assert (model["width"], model["depth"], model["num_heads"]) == (width, depth, num_heads)
    assert model["patch_size"] == patch_size


def test_a_denoiser_can_be_trained_alone(composed):
    assert composed("predictor=none")["predictor"] is None
