"""What comes with the package as weights is what its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lt_eval.distill.codec_stage import MOUTH, inside
from lt_eval.distill.pictures import to_video
from lt_eval.distill.recipe import build
from lt_eval.distill.stages import Workshop, run_stage
from lt_eval.distill.talkers import TalkerOptions, draw
from lt_eval.errors import WeightsError
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_files import load_codec
from lt_eval.generator.presets import BUNDLED, MINI, bundled_codec


@torch.no_grad()
def test_people_nobody_trained_on_come_back_through_the_codec() -> None:
    codec = create_codec(MINI.codec)
    load_codec(codec, BUNDLED / "mini-codec.safetensors")
    squares = []
    for person in range(3):
        video = to_video(
            draw(TalkerOptions(first_seed=7_950_000, people=3, held_out=0, windows=1, frames=9), person, 0).frames[None]
        )
        latents = codec.encode(video)
        assert latents.shape == (1, 96, 3, 8, 8)
        error = codec.decode(latents) - video
        squares.append([float(part.square().mean()) for part in (error, inside(error, MOUTH))])
        still = codec.decode(codec.encode(video[:, :, :1].expand_as(video))) - video
        assert squares[-1][1] < float(inside(still, MOUTH).square().mean())  # it follows mouths
    whole, mouth = -10 * np.log10(np.mean(squares, axis=0) / 4)
    assert whole > 30 and mouth > 28


def test_a_recipe_takes_the_codec_of_the_package(tmp_path: Path) -> None:
    shop = Workshop(build({"codec_weights": "builtin"}), tmp_path, lambda stage, done, total, what: None)
    assert "mini-codec" in run_stage("codec", shop)
    # to the byte: material that was made with the one is found by the other
    copied, bundled = tmp_path / "codec" / "codec.safetensors", BUNDLED / "mini-codec.safetensors"
    assert copied.read_bytes() == bundled.read_bytes()


def test_a_preset_without_a_codec_says_which_have_one() -> None:
    with pytest.raises(WeightsError, match=r"No trained codec of 'nano' comes with the package, only of: mini\."):
        bundled_codec("nano")
