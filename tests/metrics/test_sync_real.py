"""Sync on real clips: faces that the cascade finds, and the slim network, which orders but does not measure them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from lt_eval.errors import SampleError, reason_of
from lt_eval.interfaces import Clip
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import CHUNK, Decoding, read_audio
from lt_eval.media.encode import encode
from lt_eval.media.haar import frontal_faces
from lt_eval.media.probe import probe
from lt_eval.metrics.sync import Sync
from lt_eval.records import Dialogue, Frames, MediaPolicy, Sample, Score, Turn
from lt_eval.testing.fakes import ArrayClip

SMALL = MediaPolicy(size=256)
DIRECT = Sync(weights="builtin", min_track=40, min_face_px=50)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))


def score(clip: Clip, metric: Sync = DIRECT) -> Score:
    return metric.score(Sample("real", Dialogue("d", (Turn(),)), 0, clip))


def reason(clip: Clip, metric: Sync = DIRECT) -> str:
    with pytest.raises(SampleError) as caught:
        score(clip, metric)
    return reason_of(caught.value)


def first_frames(path: Path, count: int, policy: MediaPolicy = SMALL) -> ArrayClip:
    """The beginning of a clip, in memory: the cascade takes its time."""
    fps = policy.fps or probe(path).fps
    chunks = list(itertools.islice(Decoding(path, policy), -(-count // CHUNK)))
    return ArrayClip(np.concatenate(chunks)[:count], read_audio(path)[: round(count / fps * 16_000)], fps, path)


def speaker(media: Path, count: int = 50) -> ArrayClip:
    return first_frames(media / "video" / "hdtf_like_512.mp4", count)


@pytest.mark.parametrize("policy", [SMALL, MediaPolicy(fps=None, size=256)], ids=["25 fps", "native"])
def test_a_clip_of_30_fps_is_scored_whole(real_media: Path, policy: MediaPolicy) -> None:
    clip = first_frames(real_media / "video" / "face4.mp4", 60 if policy.fps is None else 50, policy)
    (track,) = score(clip).details["tracks"]
    assert track["frames"] == [0, 50] and track["seen"] == 50


def test_the_face_is_where_it_is(real_media: Path) -> None:
    found = score(speaker(real_media))
    assert found.details["faces"] == "haar"
    left, top, right, bottom = found.details["tracks"][0]["box"]
    assert left < 0.4 < 0.6 < right and top < 0.35 < 0.7 < bottom  # eyes and mouth are in it


def test_two_clips_joined_are_two_shots(real_media: Path) -> None:
    one = speaker(real_media, 60)
    two = first_frames(real_media / "video" / "generated_with_driving_audio.mp4", 50)
    joined = ArrayClip(np.concatenate([one.frames, two.frames]), np.concatenate([one.audio, two.audio]))
    found = score(joined)
    assert [track["frames"] for track in found.details["tracks"]] == [[0, 60], [60, 110]]
    alone = score(one)
    assert found.values["Sync-C (builtin)"] == pytest.approx(alone.values["Sync-C (builtin)"], abs=1e-3)


def test_two_clips_side_by_side_are_two_faces(real_media: Path) -> None:
    one, two = speaker(real_media), first_frames(real_media / "video" / "generated_with_driving_audio.mp4", 50)
    found = score(ArrayClip(np.concatenate([one.frames, two.frames], axis=2), one.audio))
    tracks = found.details["tracks"]
    assert [track["frames"] for track in tracks] == [[0, 50]] * 2
    widths = [track["box"][2] - track["box"][0] for track in tracks]
    assert found.details["chosen"] == int(np.argmax(widths))


@pytest.mark.parametrize("mode", ["direct", "reference"])
def test_shots_and_faces_of_a_file_are_tracks_in_both_modes(real_media: Path, tmp_path: Path, mode: str) -> None:
    """From the file on: cuts and faces are found in what the codecs of the reference mode leave."""
    one, two = speaker(real_media), first_frames(real_media / "video" / "generated_with_driving_audio.mp4", 46)
    metric = Sync(weights="builtin", mode=mode, min_track=40, min_face_px=50)  # type: ignore[arg-type]
    sound = np.concatenate([one.audio, two.audio])
    joined = encode(tmp_path / "joined.mp4", np.concatenate([one.frames, two.frames]), 25, sound)
    beside = encode(tmp_path / "beside.mp4", np.concatenate([one.frames[:46], two.frames], axis=2), 25, one.audio)
    with MediaClip(joined) as clip:
        found = score(clip, metric).details
    assert [track["shot"] for track in found["tracks"]] == [0, 1] and found["chosen"] == 0
    # in reference mode the AVI holds the first picture for a frame or two, and the cut comes as much later
    assert [track["frames"][1] for track in found["tracks"]] == [pytest.approx(50, abs=2), 96]
    with MediaClip(beside) as clip:
        found = score(clip, metric).details
    assert [track["frames"] for track in found["tracks"]] == [[0, 46]] * 2
    assert sorted(track["box"][0] > 0.5 for track in found["tracks"]) == [False, True]


def test_an_upright_clip_has_its_small_face(real_media: Path) -> None:
    policy = MediaPolicy(size=640, fit="letterbox")
    clip = first_frames(real_media / "video" / "portrait_hevc_1080x1920_30fps.mp4", 48, policy)
    assert len(score(clip).details["tracks"]) == 1
    assert reason(clip, Sync(weights="builtin", min_track=40, min_face_px=300)) == "face_too_small"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("silent_track.mp4", "silent_audio"),
        ("no_audio.mp4", "no_audio"),
        ("no_face_no_audio.mp4", "no_audio"),
    ],
)
@pytest.mark.parametrize("mode", ["direct", "reference"])
def test_clips_that_say_nothing_say_why(real_media: Path, name: str, why: str, mode: str) -> None:
    with MediaClip(real_media / "video" / name, SMALL) as clip:
        assert reason(clip, Sync(weights="builtin", mode=mode)) == why  # type: ignore[arg-type]


def test_a_cat_has_no_face(real_media: Path) -> None:
    with MediaClip(real_media / "video" / "no_face_no_audio.mp4", SMALL) as clip:
        cat = ArrayClip(clip.frames[:50], speaker(real_media).audio)
    assert reason(cat) == "no_face"


def test_a_clip_that_is_too_short_says_so(real_media: Path) -> None:
    assert reason(speaker(real_media, 30)) == "clip_too_short"


def sidecar(path: Path, frames: Frames) -> None:
    """Write the cascade's box of the first frame beside a clip."""
    left, top, width, height = frontal_faces(frames[0], 320, 0.1)[0]
    box = [left, top, left + width, top + height]
    path.with_name(f"{path.stem}.faces.json").write_text(json.dumps({"fps": 25, "faces": [box] * len(frames)}))


def test_both_modes_agree_about_a_real_clip(real_media: Path, tmp_path: Path) -> None:
    speech = speaker(real_media, 60)
    path = encode(tmp_path / "clip.mp4", speech.frames, 25, speech.audio)
    sidecar(path, speech.frames)
    with MediaClip(path) as clip:
        direct, reference = score(clip), score(clip, Sync(**{**vars(DIRECT), "mode": "reference"}))
    one, other = (found.details["tracks"][0] for found in (direct, reference))
    assert one["frames"] == other["frames"] == [0, 60]
    assert one["distance"] == pytest.approx(other["distance"], rel=0.1)
    assert one["distance"] != other["distance"]
