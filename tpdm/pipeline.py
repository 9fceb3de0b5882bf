"""A Stable Diffusion 3 whose Time Predictor decides, for each image, which noise level comes next."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tpdm.assembly import described_predictor, open_predictor
from tpdm.denoiser import Denoiser, Guided
from tpdm.finished import FIGURES
from tpdm.model.pretrained import Hooked, inner_width
from tpdm.model_card import model_card
from tpdm.predictor.budget import at_budget
from tpdm.published_pipeline import REFERENCE, SAMPLER
from tpdm.registry import build
from tpdm.runtime.artifact import save_artifact
from tpdm.runtime.atomic import read_json, read_record
from tpdm.runtime.hub import published
from tpdm.runtime.run import Run
from tpdm.sampler.adaptive import AdaptiveSampler, mode, sample
from tpdm.scheduler.flow import Flow
from tpdm.types import DenoiserLike, FeatureSpec, Prediction, Scheduler, Text

SETTINGS, CARD = "tpdm.json", "README.md"
FILES = [
    "model_index.json",
    *(f"{part}/*" for part in ("transformer", "vae", "scheduler", "text_encoder*", "tokenizer*")),
]


@dataclass
class TPDMOutput:
    """Images as `output_type` has them, and for each the calls it took and the times it visited, 1 to 0."""

    images: Any
    nfe: Tensor  # (B,)
    times: list[Tensor]


class Contrasted(nn.Module):
    """Guidance away from a negative prompt of each sample's own, which travels in the second half of cond."""

    def __init__(self, denoiser: DenoiserLike, guidance_scale: float):
        super().__init__()
        self.denoiser: Any = denoiser
        self.scheduler: Scheduler = denoiser.scheduler
        self.guidance_scale = guidance_scale

    def forward(self, x: Tensor, t: Tensor, cond: Text) -> Prediction:
        (pooled, null_pooled), (tokens, null_tokens) = cond.pooled.chunk(2, 1), cond.tokens.chunk(2, 2)
        null = Text(null_pooled, null_tokens, cond.mask)
        return Guided(self.denoiser, self.guidance_scale, null_cond=null)(
            x, t, Text(pooled, tokens, cond.mask)
        )


class TPDMPipeline:
    """diffusers' pipeline for the prompts, the transformer and the images; times by a predictor.

    `pipe` is that pipeline, for all that is not here; `settings` is a sampler's config, `figures` what a
    model card tells of the predictor.
    """

    def __init__(
        self,
        pipe: Any,
        predictor: nn.Module,
        features: FeatureSpec,
        card: Mapping[str, Any],
        settings: Mapping[str, Any] = SAMPLER,
        figures: Mapping[str, Any] | None = None,
    ):
        self.pipe, self.predictor, self.features = pipe, predictor, features
        self.card, self.settings, self.figures = dict(card), dict(settings), dict(figures or {})
        self.backbone: Any = Hooked(pipe.transformer)
        self.scheduler: Any = Flow(pipe.scheduler.config.shift, "velocity")

    @classmethod
    def from_pretrained(
        cls, path: str | Path, predictor: str | Path | None = None, **kwargs: Any
    ) -> TPDMPipeline:
        """`path` and `predictor` are folders or ids of the hub.

        `predictor` has a predictor, or is a run or a pipeline that has one; None: it lies in `path`. What
        diffusers' `from_pretrained` takes goes on to it. ValueError where files are missing, or the predictor
        was made for a transformer of other widths.
        """
        from diffusers import StableDiffusion3Pipeline

        folder = published(str(path), FILES, "path")
        pipe = StableDiffusion3Pipeline.from_pretrained(folder, use_safetensors=True, **kwargs)
        source = Path(path if predictor is None else predictor)
        root = source if source.is_dir() else published(str(source), ["*"], "predictor")
        folder = root / "predictor" if (root / "predictor").is_dir() else root
        config, features = described_predictor(folder)
        check_width(source, features, pipe.transformer)
        network = open_predictor(folder)
        settings, figures = told(root)
        return cls(pipe, network.eval().requires_grad_(False), features, config, settings, figures)

    @classmethod
    def from_official(
        cls, path: str | Path, predictor: str | Path, token_order: Literal["raster", "folded"], **kwargs: Any
    ) -> TPDMPipeline:
        """With the published predictor, drawing as the reference does.

        By Euler's method on the modes, in ratios of 1e-3 to 0.999, until a time falls below 0.01, and with
        the noise of that last time left in the image. `token_order` is "folded" for the published weights.
        """
        from diffusers import StableDiffusion3Pipeline

        folder = published(str(path), FILES, "path")
        pipe = StableDiffusion3Pipeline.from_pretrained(folder, use_safetensors=True, **kwargs)
        config, size = pipe.transformer.config, pipe.default_sample_size
        width, side = inner_width(config), size // config.patch_size
        features = FeatureSpec(width, width, None, (side, side))
        card = {"name": "official", "path": str(predictor), "token_order": token_order}
        network = build("predictor", card, features=features)
        return cls(pipe, network, features, {"predictor": card}, REFERENCE)

    def to(self, *args: Any, **kwargs: Any) -> TPDMPipeline:
        self.pipe.to(*args, **kwargs)
        return self

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """One network at a time is where it computes; the others wait in the machine's memory."""
        self.pipe.enable_model_cpu_offload(*args, **kwargs)

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """One layer at a time is."""
        self.pipe.enable_sequential_cpu_offload(*args, **kwargs)

    def enable_group_offload(self, *args: Any, **kwargs: Any) -> None:
        """A group of layers at a time is."""
        self.pipe.enable_group_offload(*args, **kwargs)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        max_steps: int = 28,
        guidance_scale: float = 7.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        num_images_per_prompt: int = 1,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        draws: torch.Generator | None = None,
        nfe: float | None = None,
        cost: float | None = None,
        max_nfe: int | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        **prompts: Any,
    ) -> TPDMOutput:
        """What a diffusers SD3 pipeline takes; `prompts` are its other arguments for text: `negative_prompt`,
        `prompt_2`, `negative_prompt_embeds`, `max_sequence_length` and so on.

        Times are the modes of what the predictor says, or drawn from it by `draws`. One for every budget is
        asked for a mean of `nfe` calls or told a `cost`; no image takes more than `max_nfe`. The callback
        gets the samples still on their way, (pipeline, step, their timesteps, {"latents": ...}), and may
        change them.
        """
        pipe = self.pipe
        device, default = pipe._execution_device, pipe.default_sample_size * pipe.vae_scale_factor
        height, width = height or default, width or default
        tokens, null_tokens, pooled, null_pooled = pipe.encode_prompt(
            prompt,
            prompts.pop("prompt_2", None),
            prompts.pop("prompt_3", None),
            device=device,
            num_images_per_prompt=num_images_per_prompt,
            do_classifier_free_guidance=guidance_scale != 1,
            prompt_embeds=prompt_embeds,
            pooled_prompt_embeds=pooled_prompt_embeds,
            **prompts,
        )
        channels = pipe.transformer.config.in_channels
        noise = pipe.prepare_latents(
            len(tokens), channels, height, width, torch.float32, device, generator, latents
        )
        check_size(self.features, noise, pipe.transformer)
        denoiser: Any = Denoiser(self.backbone, self.scheduler)
        if guidance_scale != 1:
            tokens, pooled = torch.cat([tokens, null_tokens], 2), torch.cat([pooled, null_pooled], 1)
            denoiser = Contrasted(denoiser, guidance_scale)
        cond = Text(pooled, tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=device))
        sampler = self.sampler(max_steps, max_nfe, callback_on_step_end)
        draw = mode if draws is None else sample(draws)
        network: Any = self.predictor.to(device)
        predictor = at_budget(network, self.card, nfe, cost)
        walk = sampler.rollout(predictor, denoiser, noise, cond, draw, keep_features=False).trajectory
        images = self.decode(walk.x0, output_type)
        pipe.maybe_free_model_hooks()
        times = [row[: int(n) + 1].cpu() for row, n in zip(walk.t, walk.nfe, strict=True)]
        return TPDMOutput(images, walk.nfe.cpu(), times)

    def sampler(
        self, max_steps: int, max_nfe: int | None, callback: Callable[..., dict[str, Any]] | None
    ) -> AdaptiveSampler:
        settings = {**self.settings, "max_steps": max_steps}
        made: AdaptiveSampler = build("sampler", settings, max_nfe=max_nfe)
        if callback is not None:
            made.step = heard(made.step, callback, self)
        return made

    def decode(self, x0: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return x0
        vae = self.pipe.vae
        z = x0.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        return self.pipe.image_processor.postprocess(
            vae.decode(z, return_dict=False)[0], output_type=output_type
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """The whole pipeline in diffusers' layout, the predictor beside it, and a model card."""
        folder = Path(folder)
        self.pipe.save_pretrained(folder)
        card = {"features": asdict(self.features), "denoiser": "", **self.card}
        save_artifact(folder / "predictor", card, self.predictor.state_dict())
        about = {"sampler": self.settings, "figures": self.figures}
        (folder / SETTINGS).write_text(json.dumps(about, indent=2) + "\n")
        (folder / CARD).write_text(model_card(self.card["predictor"], self.features, self.figures))

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Uploads what `save_pretrained` writes; `kwargs` are for the hub's `create_repo`."""
        from huggingface_hub import HfApi

        api = HfApi()
        url = str(api.create_repo(repo_id, exist_ok=True, **kwargs))
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api.upload_folder(repo_id=repo_id, folder_path=folder)
        return url


def heard(step: Callable[..., Tensor], callback: Callable[..., dict[str, Any]], pipeline: Any) -> Any:
    """The step, after which the callback is told and may change where the samples are."""
    count = iter(range(2**31))

    def stepped(path: Any, p: Any, t: Tensor, t_next: Tensor, past: Any) -> Tensor:
        x = step(path, p, t, t_next, past)
        return callback(pipeline, next(count), path.timestep(t), {"latents": x}).get("latents", x)

    return stepped


def told(root: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(sampler, figures) that lie beside a predictor: of a saved pipeline, or of a run."""
    if (root / SETTINGS).is_file():
        about = read_json(root / SETTINGS)
        return about["sampler"], about["figures"]
    config = Run(root).config if (root / "config.yaml").is_file() else None
    figures = read_record(root / FIGURES)["figures"] if (root / FIGURES).is_file() else {}
    return (SAMPLER if config is None else config["sampler"]), figures


def check_width(source: Path, features: FeatureSpec, transformer: Any) -> None:
    width = inner_width(transformer.config)
    if (features.width, features.temb_width) != (width, width):
        raise ValueError(
            f"predictor={source} reads features of width {features.width}, and the transformer's have {width}"
        )


def check_size(features: FeatureSpec, noise: Tensor, transformer: Any) -> None:
    patch_size = transformer.config.patch_size
    hw = (noise.shape[2] // patch_size, noise.shape[3] // patch_size)
    if hw != features.hw:
        raise ValueError(
            f"images of {hw[0]}x{hw[1]} tokens were asked for, and the predictor was trained on {features.hw}"
        )
