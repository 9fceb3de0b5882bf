"""The judge of generated digits: a small network that has seen the training digits and nothing else."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tpdm.data.digits import CELL, EMPTY, NUM_DIGITS, DigitData, real_digits, split_cells
from tpdm.runtime.artifact import load_artifact, save_artifact

CLASSIFIER = "classifier"  # its folder in a run
SEED = 0
WIDTH = 64  # of the features
STEPS = 400
BATCH_SIZE = 128
LEARNING_RATE = 4e-3
MAX_NOISE = 0.2  # generated cells are never quite clean


class DigitClassifier(nn.Module):
    """Eleven classes for an 8x8 cell: the ten digits and empty."""

    empty = EMPTY
    scale: Tensor

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, WIDTH // 2, 3, padding=1),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(WIDTH // 2, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(WIDTH * (CELL // 2) ** 2, WIDTH),
            nn.GELU(),
        )
        self.head = nn.Linear(WIDTH, NUM_DIGITS + 1)
        self.register_buffer("scale", torch.ones(()))

    def features(self, cells: Float[Tensor, "M 1 8 8"]) -> Float[Tensor, "M D"]:
        """What the last layer reads, in units of its spread over the training digits."""
        return self.trunk(cells) / self.scale

    def forward(self, cells: Float[Tensor, "M 1 8 8"]) -> Float[Tensor, "M 11"]:
        return self.head(self.trunk(cells))

    def logits(self, x: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B slots 11"]:
        """Logits of every cell of a canvas, in the order of the condition's slots."""
        cells = split_cells(x)
        return self(cells.flatten(0, 1)).unflatten(0, cells.shape[:2])

    def log_prob(self, x: Float[Tensor, "B 1 H W"], cond: Int[Tensor, "B slots"]) -> Float[Tensor, "B slots"]:
        """log p(asked symbol) of every cell."""
        return self.logits(x).log_softmax(-1).gather(-1, cond[..., None]).squeeze(-1)

    def correct(self, x: Float[Tensor, "B 1 H W"], cond: Int[Tensor, "B slots"]) -> Bool[Tensor, "B slots"]:
        """True where a cell shows the symbol that was asked for."""
        return self.logits(x).argmax(-1) == cond


def digit_accuracy(
    classifier: DigitClassifier, x: Float[Tensor, "B 1 H W"], cond: Int[Tensor, "B slots"]
) -> float:
    """Share of the cells that were to hold a digit and show that digit; nan if there are none."""
    return classifier.correct(x, cond)[cond < EMPTY].float().mean().item()


def digit_features(
    classifier: DigitClassifier, x: Float[Tensor, "B 1 H W"], cond: Int[Tensor, "B slots"]
) -> Float[Tensor, "M D"]:
    """Features of the cells that were to hold a digit."""
    return classifier.features(split_cells(x)[cond < EMPTY])


def fit_digit_classifier(seed: int) -> DigitClassifier:
    """Trained on the training digits, shifted by up to a pixel, and on empty cells; noise on both."""
    digits, symbols = real_digits("train")
    images, labels = with_empty(digits, symbols)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the layers' own initialisation draws from the global state
        classifier = DigitClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS)
    for _ in range(STEPS):
        index = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        loss = F.cross_entropy(classifier(augmented(images[index], generator)), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    classifier.scale.copy_(classifier.trunk(digits).detach().std())
    return classifier.eval().requires_grad_(False)


def can_read(data: Any) -> bool:
    """Whether the images of these data are cells of digits, and their labels or captions name them."""
    return isinstance(data, DigitData)


def kept_digit_classifier(folder: Path) -> DigitClassifier:
    """The one in `folder`, first trained if there is none: a run has one judge for all its tables."""
    if not folder.exists():
        save_artifact(folder, {"seed": SEED}, fit_digit_classifier(SEED).state_dict())
    _, state = load_artifact(folder)
    classifier = DigitClassifier()
    classifier.load_state_dict(state)
    return classifier.eval().requires_grad_(False)


def with_empty(
    images: Float[Tensor, "n 1 8 8"], labels: Int[Tensor, "n"]
) -> tuple[Float[Tensor, "m 1 8 8"], Int[Tensor, "m"]]:
    """Adds as many empty cells as there are digits of one class."""
    count = len(images) // NUM_DIGITS
    empty = torch.full_like(images[:count], -1.0)
    return torch.cat([images, empty]), torch.cat([labels, labels.new_full((count,), EMPTY)])


def augmented(cells: Float[Tensor, "M 1 8 8"], generator: torch.Generator) -> Float[Tensor, "M 1 8 8"]:
    """Each cell moved by up to one pixel and blurred by noise of its own level."""
    windows = (
        F.pad(cells, (1, 1, 1, 1), value=-1.0).unfold(2, CELL, 1).unfold(3, CELL, 1)
    )  # (M, 1, 3, 3, 8, 8)
    down, right = torch.randint(3, (2, len(cells)), generator=generator)
    moved = windows[torch.arange(len(cells)), :, down, right]  # (M, 1, 8, 8)
    level = MAX_NOISE * torch.rand(len(cells), 1, 1, 1, generator=generator)
    return moved + level * torch.randn(moved.shape, generator=generator)
