"""What comes with the package as weights is what its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lt_eval.distill.codec_stage import MOUTH, inside
from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.held_out import measure_clips, prepare_held_out
from lt_eval.distill.pictures import to_frames, to_video
from lt_eval.distill.recipe import build
from lt_eval.distill.stages import Workshop, run_stage
from lt_eval.distill.talkers import TalkerOptions, draw
from lt_eval.errors import WeightsError
from lt_eval.generator.cards import stage_of
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_files import load_codec
from lt_eval.generator.presets import BUNDLED, MINI, bundled_codec
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.media.encode import encode
from lt_eval.records import Audio, Frames


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


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Three people nobody trained on: true, still, made by the bundled generator, and made with another's speech."""
    generator = ReferenceGenerator()
    config, folder = generator.settings, tmp_path_factory.mktemp("talked")
    options = TalkerOptions(first_seed=7_960_000, people=3, held_out=0, windows=1, frames=101)
    codec = create_codec(config.codec)
    load_codec(codec, bundled_codec("mini"))
    people = prepare_held_out(options, Denoiser.fresh(config, 0), codec, folder / "true", range(3))
    true = [draw(options, person, 0).frames for person in range(3)]

    def said(portrait: Frames, speech: Audio) -> Frames:
        with generator.session(portrait, prompt="A person talks.", seed=0) as session:
            return np.concatenate(list(session.speak([speech])))

    clips = {
        "true": true,
        "codec": [to_frames(codec.decode(codec.encode(to_video(clip[None]))))[0] for clip in true],
        "frozen": [np.repeat(clip[:1], len(clip), 0) for clip in true],
        "made": [said(clip[0], audio) for clip, audio in zip(true, people.audio, strict=True)],
        "other": [said(clip[0], people.audio[(person + 1) % 3]) for person, clip in enumerate(true)],
    }
    (folder / "made").mkdir()
    return {
        kind: measure_clips(
            [
                encode(folder / "made" / f"{kind}-{person}.mp4", clip, people.fps, people.audio[person])
                for person, clip in enumerate(made)
            ],
            people,
        )
        for kind, made in clips.items()
    }


def test_the_generator_of_the_package_talks_in_time(talked: dict[str, dict[str, float]]) -> None:
    assert talked["made"]["Sync-C"] > 0.65 * talked["true"]["Sync-C"]
    assert talked["made"]["in time"] == 1
    assert talked["made"]["Sync-C"] > 3 * max(talked[kind]["Sync-C"] for kind in ("frozen", "other"))


def test_the_codec_keeps_what_lips_say(talked: dict[str, dict[str, float]]) -> None:
    assert talked["codec"]["Sync-C"] > 0.93 * talked["true"]["Sync-C"]


def test_it_is_nearer_to_the_truth_than_a_still_portrait(talked: dict[str, dict[str, float]]) -> None:
    assert talked["made"]["FVD"] < 0.25 * talked["frozen"]["FVD"]


def test_it_is_small_and_says_what_it_is() -> None:
    path = BUNDLED / "mini.safetensors"
    assert path.stat().st_size <= 25e6 and stage_of(path) == "dmd"
    notes = ReferenceGenerator().footnotes
    assert len(notes) == 1 and "noise" not in notes[0]
    card = (BUNDLED / "mini.md").read_text()
    assert all(word in card for word in ("mini-cpu", "drawn people", "steps", "cores"))
    other = BUNDLED / "mini-codec.safetensors"
    with safe_open(path, "pt") as whole, safe_open(other, "pt") as codec:
        assert all(torch.equal(whole.get_tensor(f"codec.{key}"), codec.get_tensor(key)) for key in codec.keys())  # noqa: SIM118


def test_a_recipe_takes_the_codec_of_the_package(tmp_path: Path) -> None:
    shop = Workshop(build({"codec_weights": "builtin"}), tmp_path, lambda stage, done, total, what: None)
    assert "mini-codec" in run_stage("codec", shop)
    # to the byte: material that was made with the one is found by the other
    copied, bundled = tmp_path / "codec" / "codec.safetensors", BUNDLED / "mini-codec.safetensors"
    assert copied.read_bytes() == bundled.read_bytes()


def test_a_preset_without_a_codec_says_which_have_one() -> None:
    with pytest.raises(WeightsError, match=r"No trained codec of 'nano' comes with the package, only of: mini\."):
        bundled_codec("nano")
