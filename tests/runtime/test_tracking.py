import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tpdm.runtime.tracking import NullTracker, Tracker


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def scalars(folder, stage: str, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard" / stage)).Reload()
    return [(e.step, e.value) for e in events.Scalars(name)]


def test_what_is_logged_is_on_disk_at_once(tmp_path):
    tracker = Tracker(tmp_path)
    tracker.log(1, {"loss": torch.tensor(0.5), "grad": math.nan}, "denoiser")
    assert lines(tmp_path) == [{"stage": "denoiser", "step": 1, "loss": 0.5, "grad": None}]
    tracker.close()


def test_a_resumed_stage_has_every_step_once(tmp_path):
    tracker = Tracker(tmp_path)
    tracker.log(100, {"loss": 9.0}, "denoiser")
    for step in range(8):
        tracker.log(step, {"loss": float(step)}, "predictor")
    tracker.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"stage": "predictor", "step": 8, "lo')

    tracker = Tracker(tmp_path)
    tracker.rewind("predictor", 4)
    for step in range(5, 10):
        tracker.log(step, {"loss": 10.0 + step}, "predictor")
    tracker.close()
    expected = [(step, step + 10.0 * (step > 4)) for step in range(10)]
    assert [(x["step"], x["loss"]) for x in lines(tmp_path) if x["stage"] == "predictor"] == expected
    assert lines(tmp_path)[0] == {"stage": "denoiser", "step": 100, "loss": 9.0}
    assert scalars(tmp_path, "predictor", "loss") == expected
    assert scalars(tmp_path, "denoiser", "loss") == [(100, 9.0)]


@settings(deadline=None, max_examples=25)
@given(
    logged=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=20),
    step=st.integers(-1, 9),
    cut=st.integers(0, 60),
)
def test_rewind_keeps_exactly_the_whole_lines_up_to_the_step(tmp_path_factory, logged, step, cut):
    folder = tmp_path_factory.mktemp("run")
    whole = [json.dumps({"stage": s, "step": k, "x": 0.5}).encode() + b"\n" for s, k in logged]
    content = b"".join(whole)
    content = content[: max(0, len(content) - cut)]
    (folder / "metrics.jsonl").write_bytes(content)
    tracker = Tracker(folder)
    tracker.rewind("a", step)
    tracker.close()
    survivors = logged[: content.count(b"\n")]
    assert [(x["stage"], x["step"]) for x in lines(folder)] == [
        (s, k) for s, k in survivors if s != "a" or k <= step
    ]


def test_pictures_and_histograms_reach_tensorboard(tmp_path):
    for tracker in (Tracker(tmp_path), NullTracker()):
        tracker.rewind("a", 0)
        tracker.log(1, {"loss": 1.0}, "a")
        tracker.image(1, "grid", Image.new("L", (8, 4)), "a")
        tracker.histogram(1, "nfe", torch.arange(5), "a")
        tracker.flush()
        tracker.close()
    tags = EventAccumulator(str(tmp_path / "tensorboard" / "a")).Reload().Tags()
    assert tags["images"] == ["grid"]
    assert tags["histograms"] == ["nfe"]


def test_an_error_names_the_file(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OSError, match=r"metrics\.jsonl"):
        Tracker(tmp_path).log(1, {"loss": 1.0}, "a")


@pytest.mark.parametrize("damage", ["garbage", "[]", '{"stage": "a"', '{"step": 1}'])
def test_a_damaged_line_is_named(tmp_path, damage):
    tracker = Tracker(tmp_path)
    tracker.log(1, {"loss": 1.0}, "a")
    tracker.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{damage}\n{path.read_text()}")
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl has a line that is no entry: .* delete it to go on"
    ):
        Tracker(tmp_path).rewind("a", 0)
