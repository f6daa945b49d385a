from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from lt_eval.errors import NoAudioError
from lt_eval.media.clip import MediaClip
from lt_eval.media.probe import lacks_bytes, probe
from lt_eval.records import MediaPolicy

if TYPE_CHECKING:
    from pathlib import Path


class Known(NamedTuple):
    """What ffprobe says of a file, and how many frames it has at 25 fps."""

    name: str
    width: int
    height: int
    frames: int
    duration_s: float
    at_25: int
    audio_s: float


CLIPS = [
    Known("face1.mp4", 700, 700, 135, 6.1, 153, 6.107 - 0.033),
    Known("face2.mp4", 844, 844, 125, 5.0, 125, 5.015),
    Known("face4.mp4", 700, 700, 199, 6.633, 166, 6.577),
    Known("face_480.mp4", 480, 480, 175, 7.0, 175, 7.011),
    Known("hdtf_like_512.mp4", 512, 512, 200, 8.0, 200, 8.0),
    Known("generated_with_driving_audio.mp4", 512, 512, 272, 10.88, 272, 10.88),
    # One of its 133 packets is empty: the frame before stays.
    Known("sync_example_976x528.avi", 976, 528, 132, 5.32, 133, 5.355),
    Known("portrait_hevc_1080x1920_30fps.mp4", 1080, 1920, 600, 20.0, 500, 20.016),
    Known("silent_track.mp4", 480, 480, 216, 7.2, 180, 7.196),
    Known("no_audio.mp4", 512, 512, 78, 3.12, 78, 0),
    Known("no_face_no_audio.mp4", 832, 480, 81, 5.0625, 127, 0),
]


@pytest.mark.parametrize("known", CLIPS, ids=lambda known: known.name)
def test_real_clips_are_read_whole(real_media: Path, known: Known) -> None:
    path = real_media / "video" / known.name
    assert not lacks_bytes(path)
    facts = probe(path)
    with MediaClip(path, MediaPolicy(size=32)) as clip:
        assert clip.frames.shape == (known.at_25, 32, 32, 3)
        info = clip.info
        assert (info.frames, info.width, info.height) == (known.frames, known.width, known.height)
        assert info.duration_s == pytest.approx(known.duration_s, abs=1e-3)
        assert info.fps == pytest.approx(known.frames / known.duration_s, rel=1e-3)
        assert (facts.frames, facts.duration_s, facts.fps) == (info.frames, info.duration_s, info.fps)
        if known.audio_s:
            assert len(clip.audio) / 16_000 == pytest.approx(known.audio_s, abs=2e-3)
            assert np.abs(clip.audio).max() <= 1
            assert clip.audio.any() == (known.name != "silent_track.mp4")
        else:
            with pytest.raises(NoAudioError):
                _ = clip.audio


def test_the_webcam_clip_is_known_by_its_timestamps(real_media: Path) -> None:
    facts = probe(real_media / "video" / "face1.mp4")
    assert facts.variable_rate and facts.fps == pytest.approx(22.13, abs=0.01)
    assert facts.audio_start_s == pytest.approx(-0.033, abs=1e-3)
