import subprocess
import sys

import pytest
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from hypothesis import given, settings
from hypothesis import strategies as st

from tpdm.nn.tokens import (
    map_to_tokens,
    map_to_windows,
    patchify,
    positions_2d,
    tokens_to_map,
    unpatchify,
    windows_to_map,
)

sizes = st.integers(1, 4)


@settings(max_examples=30, deadline=None)
@given(patch_size=sizes, rows=sizes, columns=sizes, channels=sizes, batch=st.integers(0, 3))
def test_unpatchify_inverts_patchify(patch_size, rows, columns, channels, batch):
    x = torch.randn(batch, channels, rows * patch_size, columns * patch_size)
    tokens = patchify(x, patch_size)
    assert tokens.shape == (batch, rows * columns, patch_size**2 * channels)
    assert torch.equal(unpatchify(tokens, patch_size, (rows, columns)), x)


def test_patches_are_in_raster_order_and_their_values_in_rows_columns_channels():
    x = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6)
    tokens = patchify(x, 2)
    for row in range(2):
        for column in range(3):
            patch = x[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(tokens[0, 3 * row + column], patch.permute(1, 2, 0).flatten())


@settings(max_examples=20, deadline=None)
@given(h=sizes, w=sizes, width=sizes)
def test_maps_and_tokens_are_one_another(h, w, width):
    x = torch.randn(2, width, h, w)
    tokens = map_to_tokens(x)
    assert torch.equal(tokens[:, (h - 1) * w], x[:, :, h - 1, 0])  # raster order
    assert torch.equal(tokens_to_map(tokens, (h, w)), x)


def test_positions_encode_the_column_first_and_sines_before_cosines():
    row, column, width = 2, 1, 16
    frequency = 1e4 ** -(torch.arange(4) / 4)
    expected = [f(p * frequency) for p in (column, row) for f in (torch.sin, torch.cos)]
    torch.testing.assert_close(positions_2d(width, (3, 5))[5 * row + column], torch.cat(expected))


@pytest.mark.parametrize("side", [1, 4, 7])
def test_positions_are_those_of_diffusers(side):
    theirs = get_2d_sincos_pos_embed(32, side, base_size=side, output_type="pt")
    torch.testing.assert_close(positions_2d(32, (side, side)), theirs.float(), atol=1e-6, rtol=0)


def test_windows_are_raster_order_inside_and_out():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    windows = map_to_windows(x, (2, 3))
    assert windows.shape == (8, 6, 3)
    assert torch.equal(windows[1], x[0, :, :2, 3:].flatten(1).T)
    assert torch.equal(windows[6], x[1, :, 2:, :3].flatten(1).T)
    assert torch.equal(windows_to_map(windows, (2, 3), (4, 6)), x)


def test_positions_follow_the_device_that_is_set_after_transformers_loaded_weights(tmp_path):
    """In a process of its own: what transformers does to torch.linspace lasts."""
    code = f"""
import torch
from transformers import CLIPTextConfig, CLIPTextModel
from tpdm.nn.tokens import positions_2d
sizes = dict(hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
CLIPTextModel(CLIPTextConfig(**sizes)).save_pretrained({str(tmp_path)!r})
CLIPTextModel.from_pretrained({str(tmp_path)!r})
with torch.device("meta"):
    assert positions_2d(8, (2, 3)).is_meta
"""
    subprocess.run([sys.executable, "-c", code], check=True)
