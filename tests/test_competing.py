"""What of a run decides the results of a suite, and so stands in the key of each."""

import pytest
import torch

from tpdm.competing import made_by, runner_of
from tpdm.evaluation.digit_classifier import CLASSIFIER
from tpdm.finished import FinishedRun
from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.runtime.atomic import write_text
from tpdm.runtime.run import CONFIG


def described(folder, ema=True):
    run = FinishedRun.open(str(folder), torch.device("cpu"), ema)
    return made_by(run, runner_of(run))


def reweighted(folder):
    """One weight of a component is another, as it is after another training."""
    config, state = load_artifact(folder)
    name = min(state)
    save_artifact(folder, config, state | {name: state[name] + 1})


def rewritten(before, after):
    """Another choice in the run's config."""

    def change(folder):
        text = (folder / CONFIG).read_text()
        assert text.count(before) > 0
        write_text(folder / CONFIG, text.replace(before, after))

    return change


CHANGES = {
    "guidance": rewritten("guidance_scale: 1.0\n", "guidance_scale: 2.0\n"),
    "sampler": rewritten("  t_min: 0.01\n", "  t_min: 0.02\n"),
    "precision": rewritten("inference_dtype: float32\n", "inference_dtype: bfloat16\n"),
    "data": rewritten("  min_digits: 0\n", "  min_digits: 1\n"),
    "predictor": lambda folder: reweighted(folder / "predictor"),
    "time_only": lambda folder: reweighted(folder / "time_only"),
    "classifier": lambda folder: reweighted(folder / CLASSIFIER),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_results_changes_what_a_run_is_known_by(copy, finished, change):
    assert described(copy) == described(finished)
    CHANGES[change](copy)
    assert described(copy) != described(finished)


def test_a_run_is_known_by_the_weights_that_are_asked(finished):
    assert described(finished, ema=False) != described(finished)
