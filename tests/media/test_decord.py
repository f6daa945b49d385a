from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lt_eval.errors import DamagedError, MissingExtraError
from lt_eval.media.clip import MediaClip
from lt_eval.records import MediaPolicy
from tests.media.making import Track, clicks, make_file, numbered, regular, set_display_matrix

if TYPE_CHECKING:
    from pathlib import Path

DECORD = MediaPolicy(decoder="decord")
needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")


def test_a_missing_decord_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with (
        MediaClip(regular(tmp_path / "clip.mp4", 25, 5), DECORD) as clip,
        pytest.raises(MissingExtraError, match=r"lt-eval\[decord\]"),
    ):
        _ = clip.frames


@needs_decord
def test_the_same_frames_sound_and_facts(tmp_path: Path) -> None:
    sound = Track(clicks(16_000, 1, [0.5]), 16_000, start_s=Fraction(1, 4), codec="aac")
    path = make_file(
        tmp_path / "clip.mp4", numbered(9), [0, 33, 67, 167, 180, 233, 300, 420, 800], sound=sound, lasts=33
    )
    turned = make_file(tmp_path / "turned.mp4", numbered(10, 240, 320), range(10), Fraction(1, 30))
    set_display_matrix(turned, (0, 1, -1, 0))
    for file in (path, turned):
        for skip in (False, True):
            ours = MediaClip(file, MediaPolicy(skip_first_frame=skip))
            theirs = MediaClip(file, MediaPolicy(skip_first_frame=skip, decoder="decord"))
            assert np.array_equal(ours.frames, theirs.frames)
            assert ours.info.duration_s == theirs.info.duration_s
    with MediaClip(path) as ours, MediaClip(path, DECORD) as theirs:
        assert np.array_equal(ours.audio, theirs.audio)


@needs_decord
def test_a_file_that_breaks_off(tmp_path: Path) -> None:
    path = regular(tmp_path / "clip.mkv", 25, 40)
    path.write_bytes(path.read_bytes()[:-600])
    with MediaClip(path, DECORD) as clip, pytest.raises(DamagedError):
        _ = clip.frames


@needs_decord
def test_real_clips_give_the_same_pixels(real_media: Path) -> None:
    for path in sorted((real_media / "video").iterdir()):
        if "1080x1920" in path.name:
            continue  # 20 s of full HD, decoded twice, would take longer than all other tests together
        with MediaClip(path) as ours, MediaClip(path, DECORD) as theirs:
            difference = np.abs(ours.frames.astype(np.int16) - theirs.frames).max()
            # decord's libavcodec is older: in the MPEG-4 part 2 clip two values of one frame differ by one level.
            assert difference <= (1 if ours.info.codec == "mpeg4" else 0), path.name
