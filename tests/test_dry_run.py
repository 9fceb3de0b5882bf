"""The numbers of a dry run against networks really built and against closed forms; nothing is left behind."""

import json
import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tpdm.assembly import Assembly
from tpdm.dry_run import denoiser_training, dry_run, predictor_training, sizes_of
from tpdm.registry import build


@pytest.fixture
def dried(composed, capsys, tmp_path, monkeypatch):
    """dried("model=dit_s2") -> what the last line says; the folder it ran in must stay empty."""
    monkeypatch.chdir(tmp_path)

    def dried(*overrides):
        dry_run(composed("dry_run=true", *overrides))
        assert list(tmp_path.iterdir()) == []
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return dried


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_those_of_the_networks_really_built(dried, composed):
    overrides = ("model=dit_s2", "data=digits")
    record, assembly = dried(*overrides), Assembly.of(composed(*overrides))
    backbone = assembly.backbone()
    assert record["parameters"] == count(backbone)
    predictor = build("predictor", composed()["predictor"], features=backbone.features)
    assert record["predictor_parameters"] == count(predictor)


def test_dit_s2_in_closed_form(dried):
    record = dried("model=dit_s2", "data=digits")
    width, depth, tokens, patch, fourier, labels = 384, 12, (8 // 2) ** 2, 2 * 2, 256, 11
    time = fourier * width + width**2
    block = 12 * width**2  # queries, keys, values, their projection, and an MLP of 4 widths
    edges = 2 * patch * width  # of the patch embedding and the head
    biases = width + 2 * width + depth * (4 + 5 + 6) * width + 2 * width + patch
    modulation = (6 * depth + 2) * width**2
    assert record["parameters"] == time + labels * width + depth * block + modulation + edges + biases
    attention = 2 * tokens**2 * width
    each_token = depth * block + edges
    assert record["multiply_adds"] == time + modulation + tokens * each_token + depth * attention


def test_without_a_predictor_there_is_none(dried):
    record = dried("predictor=none")
    assert (record["predictor_parameters"], record["predictor_multiply_adds"]) == (0, 0)
    assert record["training"]["predictor"] is None
    assert record["parameters"] > 0


@pytest.mark.parametrize("predictor", ["vit_large", "cnn", "hybrid", "time_only"])
@pytest.mark.parametrize("block", ["in_context", "cross_attention"])
def test_any_pair_has_sizes(predictor, block, composed):
    cfg = composed(f"predictor={predictor}", f"model/block={block}", "scheduler=ddpm")
    sizes = sizes_of(cfg, Assembly.of(cfg))
    assert min(sizes.denoiser.multiply_adds, sizes.predictor.multiply_adds) > 0
    assert (sizes.features > 0) == (predictor != "time_only")  # which keeps none


@pytest.mark.parametrize("model", ["diffit", "diffit_unet", "unet"])
def test_models_beside_dit_have_sizes(model, composed):
    cfg = composed(f"model={model}")
    assembly = Assembly.of(cfg)
    assert sizes_of(cfg, assembly).denoiser.parameters == count(assembly.backbone())


def test_batches_multiply(dried, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    trainer = ("trainer.batch_size=96", "trainer.accumulate=3", "trainer.max_steps=10")
    explorer = ("prompts=5", "samples=4", "max_steps=7")
    record = dried(*trainer, *(f"predictor_trainer.{setting}" for setting in explorer))
    denoiser, predictor = record["training"]["denoiser"], record["training"]["predictor"]
    assert denoiser["batch"] == {"rows": 16, "accumulate": 3, "processes": 2}
    assert denoiser["seen"] == 96 * 10
    assert predictor["batch"] == {"prompts": 5, "samples": 4, "processes": 2}
    assert predictor["seen"] == 5 * 4 * 2 * 7


def test_a_batch_that_does_not_divide_is_refused_as_in_a_run(dried, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"trainer\.batch_size=3 does not divide"):
        dried("trainer.batch_size=3")


def test_epochs_where_the_data_has_a_size(composed):
    cfg = composed("trainer.batch_size=100", "trainer.max_steps=50")
    sizes = sizes_of(cfg, Assembly.of(cfg))
    finite, endless = (
        SimpleNamespace(data=lambda split, data=data: data) for data in (range(1250), object())
    )
    assert denoiser_training(cfg, finite, sizes, 1)["epochs"] == 4.0
    assert denoiser_training(cfg, endless, sizes, 1)["epochs"] is None


def test_memory_grows_with_what_it_is_for(composed):
    cfg = composed()
    assembly = Assembly.of(cfg)
    sizes = sizes_of(cfg, assembly)
    denoiser = denoiser_training(cfg, assembly, sizes, 1)["memory"]
    assert (
        denoiser["weights"] == denoiser["gradients"] == denoiser["average"] == 4 * sizes.denoiser.parameters
    )
    assert denoiser["optimizer"] == 8 * sizes.denoiser.parameters
    assert denoiser["activations"] == 128 * sizes.denoiser.saved_bytes

    whole = predictor_training(cfg, assembly, sizes, 1)["memory"]
    cfg["predictor_trainer"]["minibatches"] = 4
    parts = predictor_training(cfg, assembly, sizes, 1)["memory"]
    assert whole["activations"] == 4 * parts["activations"]
    assert whole["features"] == parts["features"] == 32 * 8 * 27 * 4 * sizes.features
    assert whole["pool"] == 2 * 4 * 1024 * 16 * 16


def test_a_denoiser_taken_over_is_not_trained(composed):
    cfg = composed("denoiser=runs/other/denoiser")
    assembly = Assembly.of(cfg)
    assert denoiser_training(cfg, assembly, sizes_of(cfg, assembly), 1) is None


def test_the_largest_preset_needs_no_memory_and_leaves_no_folder(tmp_path):
    out = subprocess.run(
        [sys.executable, "-m", "tpdm.train", "model=dit_xl2", "predictor=vit_large", "dry_run=true"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    record = json.loads(out.stdout.splitlines()[-1])
    weights_in_kib = 4 * record["parameters"] / 1024
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < weights_in_kib
    assert record["memory_bytes"] > 5 * 4 * record["parameters"]
    assert list(tmp_path.iterdir()) == []
