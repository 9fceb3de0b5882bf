"""`stage=codec`: trains an autoencoder, measures its latents, and leaves a codec that other runs may name."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tpdm.check import check_stage, check_trainer
from tpdm.codec.kl_vae import KLVAE
from tpdm.codec.latent import Scaled
from tpdm.evaluation.reconstruction import Reconstructions
from tpdm.evaluation.report import draw_curves
from tpdm.finished import SUMMARY, read_summary
from tpdm.registry import build
from tpdm.runtime.plots import png
from tpdm.runtime.provenance import provenance
from tpdm.runtime.run import Run
from tpdm.runtime.timings import Stopwatch, read_timings
from tpdm.runtime.tracking import NullTracker, Tracker
from tpdm.starting import accelerator_of, open_run
from tpdm.trainer.stage import Stage
from tpdm.types import DataShape

Config = dict[str, Any]
LEAST_SPREAD = 1e-6  # of a channel that says nothing; it is not to become infinite


def train_codec(cfg: Config) -> None:
    """Leaves codec/, reconstructions.png and summary.json with the PSNR of held-out images."""
    accelerator = accelerator_of(cfg)
    codec, shape = check_codec(cfg, accelerator.num_processes)
    with open_run(cfg, accelerator) as run:
        if read_summary(run.folder / SUMMARY) is not None:
            print(f"finished already; codec.path={run.folder / 'codec'} names it")
            return
        tracker = Tracker(run.folder) if accelerator.is_main_process else NullTracker()
        stage = Stage("codec", run, tracker, accelerator, cfg["seed"], cfg["mixed_precision"])
        network, preview = fit(cfg, codec, shape, stage)
        if accelerator.is_main_process:
            finish(cfg, codec, network, preview, run, accelerator)
        tracker.close()


def check_codec(cfg: Config, ranks: int) -> tuple[KLVAE, DataShape]:
    """The codec to be trained, and the size of the images. ValueError where these cannot train it."""
    check_stage(cfg)
    if cfg["mixed_precision"] == "bf16_weights":
        raise ValueError("mixed_precision=bf16_weights is the denoiser's; stage=codec takes no, bf16 or fp16")
    codec = build("codec", cfg["codec"])
    if not isinstance(codec, KLVAE):
        raise ValueError(
            f"codec={cfg['codec']['name']} has nothing to train; stage=codec trains codec=kl_vae"
        )
    if codec.path is not None:
        raise ValueError(f"codec.path={codec.path} is trained already; stage=codec needs codec.path=null")
    data = build("data", cfg["data"], split="train")
    if data.encoded_by is not None:
        raise ValueError(f"data={cfg['data']['name']} is latents already, and a codec is trained on images")
    codec.shape_of(data.shape)
    check_trainer("codec_trainer", "codec", cfg, ranks)
    build("optimizer", cfg["codec_optimizer"])
    return codec, data.shape


def fit(
    cfg: Config, codec: KLVAE, shape: DataShape, stage: Stage
) -> tuple[nn.Module, Callable[[int, dict[str, Tensor]], Any]]:
    """The network with its averaged weights, and what draws its reconstructions."""
    settings, folder = cfg["codec_trainer"], stage.run.folder
    torch.manual_seed(cfg["seed"])
    network = codec.network(shape.channels)
    held_out, _ = build("data", cfg["data"], split="test").batch(
        settings["held_out"], torch.Generator().manual_seed(0)
    )
    spare = codec.network(shape.channels)
    preview = Reconstructions(folder / "previews", spare, held_out, codec.batch_size)
    trainer = build(
        "trainer",
        settings,
        network=network,
        latent=tuple(codec.shape_of(shape)),
        data=build("data", cfg["data"], split="train", skipped=folder / "skipped.jsonl"),
        optimizer=build("optimizer", cfg["codec_optimizer"]),
        stage=stage,
        preview=preview,
    )
    network.load_state_dict(trainer.fit())
    return network.eval().requires_grad_(False), preview


def finish(
    cfg: Config, codec: KLVAE, network: nn.Module, preview: Any, run: Run, accelerator: Accelerator
) -> None:
    """Measures the latents, and writes the codec, its pictures and its summary."""
    stopwatch = Stopwatch(run.folder, "measuring")
    data, settings = build("data", cfg["data"], split="train"), cfg["codec_trainer"]
    z = latents(codec, network, data, settings["measured"], cfg["seed"], accelerator.device)
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3)).clamp(min=LEAST_SPREAD)  # (c,)
    codec.save(run.folder / "codec", Scaled(network, mean, 1 / std), data.shape.channels)
    image, psnr = preview(settings["max_steps"] - 1, network.state_dict())
    png(image, run.folder / "reconstructions.png")
    draw_curves(run.folder)
    stopwatch.save()
    measured = {"psnr": psnr, "latents": {"mean": mean.tolist(), "std": std.tolist()}}
    run.write_json(SUMMARY, {**measured, "seconds": read_timings(run.folder), **provenance()})
    print(f"{run.folder / 'codec'}: PSNR {psnr:.2f} dB on {settings['held_out']} held-out images")


def latents(
    codec: KLVAE, network: nn.Module, data: Any, count: int, seed: int, device: torch.device
) -> Tensor:
    """Of so many training images, neither shifted nor scaled, in float64."""
    generator, blank = torch.Generator().manual_seed(seed), torch.zeros(codec.sizes.latent_channels)
    plain = Scaled(network, blank, blank + 1).to(device)
    sizes = [min(codec.batch_size, count - first) for first in range(0, count, codec.batch_size)]
    parts = (data.batch(size, generator)[0].to(device) for size in sizes)
    return torch.cat([plain.encode(x).cpu().double() for x in parts])
