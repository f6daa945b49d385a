"""Configurations of codecs: what they mean, and what is refused."""

from __future__ import annotations

import pytest

from lt_eval.errors import SpecError
from lt_eval.generator.codec_config import (
    MiniCodecConfig,
    TinyCodecConfig,
    WanCodecConfig,
    codec_config,
    pixel_frames,
)


def test_sizes_follow_from_stages() -> None:
    assert MiniCodecConfig().spatial == 16
    assert MiniCodecConfig(widths=(8, 8, 8, 8), decoder_blocks=(1,) * 4, encoder_blocks=(1,) * 4).spatial == 32
    assert WanCodecConfig().spatial == 8
    assert TinyCodecConfig().spatial == 8 and TinyCodecConfig(patch=2).spatial == 16
    assert {config.temporal for config in (MiniCodecConfig(), WanCodecConfig(), TinyCodecConfig())} == {4}


def test_a_clip_of_latents_has_one_frame_and_then_four_each() -> None:
    assert [pixel_frames(count) for count in (0, 1, 2, 3, 6)] == [0, 1, 5, 9, 21]


def test_a_table_makes_a_configuration() -> None:
    assert codec_config("mini", {"widths": [16, 8], "decoder_blocks": [1, 1], "encoder_blocks": [1, 1]}).spatial == 8
    assert codec_config("wan") == WanCodecConfig()


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("mimi", {}, "Did you mean 'mini'"),
        ("mini", {"width": 3}, "Did you mean 'widths'"),
        ("mini", {"widths": (8, 8)}, "2 widths, 3 decoder_blocks and 3 encoder_blocks"),
        ("mini", {"widths": (9, 8, 8)}, "multiples of shift"),
        ("mini", {"decoder_blocks": (1, -1, 1)}, "not negative"),
        ("mini", {"patch": 0}, "must be positive"),
        ("wan", {"time_down": (True, True, True)}, "two of them true"),
        ("wan", {"latent_channels": 4}, "4 latent_channels, 16 values of mean"),
        ("wan", {"dim": 3}, "dim even"),
        ("tiny", {"widths": (8, 8)}, "four widths"),
    ],
)
def test_what_cannot_be_is_refused(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        codec_config(kind, options)
