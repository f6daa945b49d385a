"""Files of codecs: the public layouts, strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lt_eval import weights
from lt_eval.errors import WeightsError
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_config import TinyCodecConfig, WanCodecConfig
from lt_eval.generator.codec_files import load_codec, save_codec
from tests.generator.test_codec import SMALL, make


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", SMALL)
def test_weights_survive_a_file(kind: str, suffix: str, tmp_path: Path) -> None:
    codec, other = make(kind), create_codec(SMALL[kind], seed=8)
    save_codec(codec, tmp_path / f"codec{suffix}")
    load_codec(other, tmp_path / f"codec{suffix}")
    assert all(torch.equal(a, b) for a, b in zip(codec.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_file_may_be_of_half_precision(tmp_path: Path) -> None:
    codec, other = make("mini"), create_codec(SMALL["mini"], seed=8)
    save_codec(codec, tmp_path / "codec.safetensors", torch.bfloat16)
    assert {value.dtype for value in load_file(tmp_path / "codec.safetensors").values()} == {torch.bfloat16}
    load_codec(other, tmp_path / "codec.safetensors")
    assert other.dtype == torch.float32
    for a, b in zip(codec.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2**-8, atol=0)


def test_what_is_missing_left_over_or_of_another_shape_is_listed(tmp_path: Path) -> None:
    codec = make("wan")
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    state = {key: value.contiguous() for key, value in codec.published.state_dict().items()}
    del state["decoder.middle.1.proj.bias"]
    state["decoder.upsamples.99.weight"] = torch.zeros(1)
    state["conv1.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError) as raised:
        load_codec(codec, tmp_path / "odd.safetensors")
    message = str(raised.value)
    assert "1 missing: decoder.middle.1.proj.bias" in message
    assert "1 left over: decoder.upsamples.99.weight" in message
    assert "conv1.bias (3,) instead of (8,)" in message
    assert all(torch.equal(before[key], value) for key, value in codec.state_dict().items())


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_codec(make("tiny"), tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match="not laid out as the codec wan"):
        load_codec(make("wan"), tmp_path / "tiny.pth")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "codec.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_codec(make("tiny"), tmp_path / "codec.pth")
    with pytest.raises(WeightsError, match=r"ends in '\.npz'"):
        save_codec(make("tiny"), tmp_path / "codec.npz")


def test_published_files_have_the_layout_of_the_default_sizes() -> None:
    """Counts and names as in the public files: 194 tensors of 126,892,531 values, and TAEHV's 9.8 M of decoder."""
    with torch.device("meta"):
        from lt_eval.generator.tiny_decoder import TinyNetwork
        from lt_eval.generator.wan_vae import WanNetwork

        wan, tiny = WanNetwork(WanCodecConfig()).state_dict(), TinyNetwork(TinyCodecConfig()).state_dict()
    assert (len(wan), sum(value.numel() for value in wan.values())) == (194, 126_892_531)
    shapes = {
        "encoder.downsamples.5.time_conv.weight": (192, 192, 3, 1, 1),
        "encoder.downsamples.6.shortcut.weight": (384, 192, 1, 1, 1),
        "encoder.head.2.weight": (32, 384, 3, 3, 3),
        "decoder.middle.1.to_qkv.weight": (1152, 384, 1, 1),
        "decoder.upsamples.3.time_conv.bias": (768,),
        "decoder.upsamples.11.resample.1.weight": (96, 192, 3, 3),
        "decoder.head.0.gamma": (96, 1, 1, 1),
        "conv2.weight": (16, 16, 1, 1, 1),
    }
    assert {key: tuple(wan[key].shape) for key in shapes} == shapes
    tiny_shapes = {
        "encoder.3.weight": (64, 64, 3, 3),
        "decoder.1.weight": (256, 16, 3, 3),
        "decoder.3.conv.0.weight": (256, 512, 3, 3),
        "decoder.13.conv.weight": (256, 128, 1, 1),
        "decoder.22.weight": (3, 64, 3, 3),
    }
    assert {key: tuple(tiny[key].shape) for key in tiny_shapes} == tiny_shapes
    assert round(sum(value.numel() for key, value in tiny.items() if key.startswith("decoder")) / 1e6, 1) == 9.8


@pytest.mark.parametrize("name", ["wan-vae", "taew2_1"])
def test_published_files_are_in_the_table_with_their_checksum(name: str) -> None:
    line = weights.entry(name)
    assert line.sha256 and len(line.sha256) == 64 and line.used_by.startswith("generator")
