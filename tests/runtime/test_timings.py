import json

import pytest

from tpdm.runtime.timings import TIMINGS, Stopwatch, read_timings


def test_seconds_add_up_over_the_starts(tmp_path):
    (tmp_path / TIMINGS).write_text(json.dumps({"denoiser": 100.0, "pool": 2.0}))
    Stopwatch(tmp_path, "denoiser").save()
    timings = read_timings(tmp_path)
    assert timings["pool"] == 2.0
    assert 100 <= timings["denoiser"] < 101


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"pool": "2"}', '{"a": true}', '{"a": NaN}', '{"pool": 2', ""]
)
def test_an_edited_file_is_named(content, tmp_path):
    (tmp_path / TIMINGS).write_text(content)
    with pytest.raises(ValueError, match=rf"{TIMINGS} (holds no|is not|has no)"):
        Stopwatch(tmp_path, "pool")
