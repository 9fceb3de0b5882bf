"""The published sizes with nothing on the disk; shards of those sizes, and of no others."""

import numpy as np
import pytest
import torch

from tests.runs import command
from tpdm import train
from tpdm.assembly import check_encoded
from tpdm.codec.identity import IdentityCodec
from tpdm.data.latents import Latents
from tpdm.data.shards import Manifest, ShardInfo, fields_of, write_shard
from tpdm.registry import build
from tpdm.types import CondSpec, DataShape


def data(path=None):
    cfg = {"name": "imagenet_latents", "path": path and str(path), "test_fraction": 0.0}
    return build("data", cfg | {"workers": 0, "reshard": False, "max_skipped": 0.0}, split="train")


def prepared(folder, shape=(4, 32, 32), symbols=1000):
    z = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).half()
    arrays = {"latent": z.numpy(), "label": np.array([[7], [999], [0]], "<i4")}
    offset = write_shard(folder / "00000.tar", 0, arrays, {})
    about = {
        "version": 1, "codec": {"name": "identity"}, "codec_sha256": IdentityCodec.sha256,
        "text_sha256": None, "precision": "float16", "shape": list(shape),
        "cond": {"slots": 1, "symbols": symbols}, "classes": [str(k) for k in range(symbols)],
        "fields": fields_of(arrays),
    }  # fmt: skip
    Manifest(about, [ShardInfo("00000.tar", 3, offset, 0.0, 0.0, 1.0)]).write(folder)
    return z.float()


def test_sizes_are_known_without_files():
    assert (data().shape, data().cond) == (DataShape(4, 32, 32), CondSpec(slots=1, symbols=1000))
    assert data().parse_labels([207, "360"]).tolist() == [[207], [360]]
    with pytest.raises(ValueError, match="labels: '1000' does not exist"):
        data().parse_labels([1000])


def test_prepared_shards_are_read(tmp_path):
    z = prepared(tmp_path)
    assert isinstance(data(tmp_path), Latents)
    check_encoded({"name": "identity"}, IdentityCodec(), data(tmp_path).encoded_by)
    x0, label = data(tmp_path).batch(16, torch.Generator().manual_seed(0))
    row = {7: 0, 999: 1, 0: 2}
    assert torch.equal(x0, z[[row[number] for number in label[:, 0].tolist()]])


@pytest.mark.parametrize("other", [{"shape": (4, 16, 16)}, {"symbols": 1001}])
def test_shards_of_other_sizes_are_refused(other, tmp_path):
    prepared(tmp_path, **other)
    with pytest.raises(
        ValueError, match=r"data.path=.* where data=imagenet_latents has 4x32x32 .* data=latents"
    ):
        data(tmp_path)


def test_training_without_files_is_refused_before_there_is_a_run(tmp_path):
    size = ("model.width=16", "model.depth=1", "model.num_heads=1")
    argv = ("data=imagenet_latents", *size, "predictor=none", f"runs={tmp_path}")
    ended = command(train.main, *argv)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("tpdm: error: data.path is missing: data=imagenet_latents knows its sizes")
    assert ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
