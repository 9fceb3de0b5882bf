import pytest
import torch

from tests.predictor.features import SPEC, random_features
from tests.tiny import scrambled
from tpdm.registry import build
from tpdm.runtime.artifact import load_artifact, save_artifact


@pytest.mark.parametrize("arch", ["cnn", "vit"])
def test_it_answers_as_the_predictor_inside_and_is_kept_the_same_way(arch, composed, tmp_path):
    """One interface, and one format: config.json names `hybrid`, and every weight stands under `inner`."""
    cfg = composed("predictor=hybrid", f"predictor/arch={arch}")["predictor"]
    model = scrambled(build("predictor", cfg, features=SPEC))
    save_artifact(tmp_path / "predictor", {"predictor": cfg}, model.state_dict())
    config, state = load_artifact(tmp_path / "predictor")
    assert config["predictor"]["name"] == "hybrid"
    assert {name.split(".")[0] for name in state} == {"inner"}

    again = build("predictor", config["predictor"], features=SPEC)
    again.load_state_dict(state)
    alone = build("predictor", cfg["arch"], features=SPEC)
    alone.load_state_dict({name.removeprefix("inner."): value for name, value in state.items()})
    answers = [
        m.eval()(random_features(4), torch.rand(4).fill_(0.3)).concentration1 for m in (model, again, alone)
    ]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
