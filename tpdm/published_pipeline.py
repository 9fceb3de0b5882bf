"""A published Stable Diffusion 3, opened to draw from it by a predictor that was trained elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpdm.assembly import Assembly, described_predictor, open_predictor
from tpdm.denoiser import Denoiser
from tpdm.model.pretrained import SD3, usual_shape
from tpdm.predictor.budget import at_budget
from tpdm.registry import build, facts, lookup
from tpdm.sampler.batched import in_batches
from tpdm.types import Condition

Config = Mapping[str, Any]
REFERENCE = {
    "name": "adaptive",
    "step": {"name": "ddim"},
    "max_steps": 28,
    "t_min": 0.01,
    "min_ratio": 1e-3,
    "max_ratio": 0.999,
    "draw": "mode",
    "end": "residual",
}
SAMPLER = {**REFERENCE, "step": {"name": "abm"}, "end": "data"}
EVERYWHERE = {"name": "constant", "channels": None}
GUIDANCE_SCALE = 7.0  # of diffusers' pipeline


class PublishedPipeline:
    """What `model=sd3` names, in images of its own size.

    The published predictor draws as its reference does, unless another sampler is chosen: Euler's steps on
    the flow path, the network told 1000 sigma, each ratio the mode sigmoid(a - b) within 1e-3 and 0.999,
    until a sigma falls below 0.01, whose noise stays in the image. Guidance extrapolates the features that
    the predictor reads as it does the prediction.
    """

    def __init__(self, cfg: Config, device: torch.device):
        """`cfg` has model, predictor, codec and scheduler. Raises ValueError where files are missing."""
        check_published(cfg["model"])
        self.path, self.chosen, self.device = cfg["model"]["path"], cfg["predictor"], device
        shape = usual_shape(self.path)
        codec, scheduler = build("codec", cfg["codec"]), build("scheduler", cfg["scheduler"])
        text = build("codec/text", cfg["codec"]["text"], captions=tuple, vocabulary=None)
        self.assembly = Assembly(cfg, codec, text, scheduler, shape, text.spec).to(device)
        self.denoiser = Denoiser(self.assembly.backbone().eval(), scheduler)
        self.cfg: dict[str, Any] = {
            "sampler": SAMPLER if self.chosen is None else REFERENCE,
            "guidance": EVERYWHERE,
            "guidance_scale": GUIDANCE_SCALE,
        }

    def picture(self, name: str) -> Path:
        """Where a picture goes that nobody named: the folder in which the command runs."""
        return Path(f"{Path(self.path).name}_{name}.png")

    reads_captions = True

    def data(self) -> Any:
        """There are none, so a prompt has to say what is drawn."""
        raise ValueError("prompt is missing; model=sd3 draws what it asks for: prompt=TEXT or prompts=[...]")

    def encoded(self, captions: Sequence[str]) -> Condition:
        return self.assembly.encoded(captions, self.denoiser.backbone)

    def sampler(
        self,
        cfg: Config,
        predictor: Path | None,
        nfe: float | None = None,
        cost: float | None = None,
        max_nfe: int | None = None,
    ) -> Any:
        """The sampler `cfg` describes; one that asks a predictor gets that which was chosen, or a folder's.

        One that takes a budget is asked for a mean `nfe` or told a `cost`, and takes `max_nfe` calls at most.
        """
        if "predictor" in facts(lookup("sampler", cfg["name"])):
            about, network = self.predictor(predictor)
            asked = at_budget(network.to(self.device).eval().requires_grad_(False), about, nfe, cost)
            return build("sampler", cfg, predictor=asked, max_nfe=max_nfe)
        scheduler = self.denoiser.scheduler
        sampler = build("sampler", cfg, scheduler=scheduler, nfe=nfe, cost=cost, max_nfe=max_nfe)
        sampler.check(scheduler)
        return sampler

    def predictor(self, folder: Path | None) -> tuple[Config, Any]:
        """(what its folder says, itself). ValueError where there is none, or it reads other features."""
        features = self.denoiser.backbone.features
        if (folder is None) == (self.chosen is None):
            raise ValueError(
                "model=sd3 draws by one predictor: predictor=official predictor.path=FILE, or one that was "
                "trained, predictor_folder=FOLDER; without any, choose a fixed sampler: sampler=euler"
            )
        if folder is None:
            check_trained(self.chosen)
            return {}, build("predictor", self.chosen, features=features)
        about, made_for = described_predictor(folder)
        if made_for != features:
            raise ValueError(
                f"predictor_folder={folder} reads {made_for}, and model.path={self.path} has {features}"
            )
        return about, open_predictor(folder)

    def sample(
        self,
        sampler: Any,
        seeds: Sequence[int],
        cond: Condition,
        scale: float,
        guidance: Config,
        batch_size: int,
    ) -> tuple[Tensor, Tensor]:
        """(images, NFE) of each seed, which do not depend on the batches they are drawn in."""
        denoiser = self.assembly.guided(self.denoiser, scale, guidance)
        x0, nfe = in_batches(sampler, denoiser, seeds, cond, self.assembly.shape, batch_size, self.device)
        return self.assembly.codec.decode(x0).cpu(), nfe.cpu()


def check_published(model: Config) -> None:
    """Raises ValueError for a model whose config does not say where its weights are."""
    if lookup("model", model["name"]) is not SD3:
        raise ValueError(
            f"model={model['name']} has no weights to draw with; accepted here: model=sd3, sd35_medium, "
            "sd35_large; or give run=FOLDER, or checkpoint=FILE"
        )


def check_trained(predictor: Config) -> None:
    """Raises ValueError for a predictor whose config does not say where its weights are."""
    if "path" not in predictor:
        raise ValueError(
            f"predictor={predictor['name']} has no weights here; use predictor_folder=FOLDER for one that "
            "was trained, or predictor=official predictor.path=FILE"
        )
