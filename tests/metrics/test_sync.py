from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval import weights as weight_files
from lt_eval.errors import NoAudioError, SampleError, SilentAudioError, WeightsError, reason_of
from lt_eval.interfaces import Clip, ClipMetric, HasFingerprint, HasFootnotes
from lt_eval.media.clip import MediaClip
from lt_eval.media.encode import encode
from lt_eval.metrics.sync import Sync
from lt_eval.records import Dialogue, MediaPolicy, Sample, Score, Turn
from lt_eval.testing import check_clip_metric
from lt_eval.testing.fakes import ArrayClip
from tests.clips import write_wav
from tests.metrics.lip_sync import FACE, SIDE, LoudnessNet, babble, talking_clip, talking_square, write_faces

SHORT = functools.partial(Sync, weights="builtin", min_track=20)


@pytest.fixture(autouse=True)
def closed_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Sync, "_network", LoudnessNet())
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))


def score(clip: Clip, metric: Sync, **turn: Any) -> Score:
    return metric.score(Sample("ours", Dialogue("d", (Turn(**turn),)), 0, clip))


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(SampleError) as caught:
        call()
    return reason_of(caught.value)


def value(found: Score, name: str) -> float:
    return next(number for column, number in found.values.items() if column.split(" (")[0] == name)


def test_keeps_the_contract_of_a_clip_metric(tmp_path: Path) -> None:
    file = tmp_path / "own.model"
    file.write_bytes(b"weights")
    factory = functools.partial(Sync, weights_file=str(file), faces="sidecar", mode="direct", min_track=20)
    metric: ClipMetric = factory()
    assert isinstance(metric, HasFootnotes) and isinstance(metric, HasFingerprint)
    check_clip_metric(factory, [talking_clip(tmp_path), talking_clip(tmp_path, seed=1)])


@pytest.mark.parametrize("late", [-15, -4, 0, 1, 9])
def test_a_shift_of_the_sound_is_found(tmp_path: Path, late: int) -> None:
    found = score(talking_clip(tmp_path, late=late), SHORT(masked=True))
    assert value(found, "Sync offset") == -late
    assert value(found, "Sync in time") == float(abs(late) <= 1)
    assert value(found, "Sync-D masked") < 1 < value(found, "Sync-C")


@pytest.mark.parametrize("late", [-3, 0, 3])
def test_the_reference_mode_hears_through_the_codecs(tmp_path: Path, late: int) -> None:
    """At 16 kHz MP3 is late by 1.7 frames, and the pictures by two."""
    clip = talking_clip(tmp_path, 60, late)
    found = score(clip, SHORT(mode="reference"))
    assert abs(value(found, "Sync offset") + late) <= 1
    assert value(found, "Sync-D") > value(score(clip, SHORT()), "Sync-D")


def test_other_sound_is_less_in_sync(tmp_path: Path) -> None:
    one, other = talking_clip(tmp_path, 60), talking_clip(tmp_path, 60, seed=1)
    mixed = ArrayClip(one.frames, other.audio, path=one.path)
    assert value(score(mixed, SHORT()), "Sync-C") < 0.5 * value(score(one, SHORT()), "Sync-C")


def test_the_driving_audio_may_be_heard_instead(tmp_path: Path) -> None:
    clip = talking_clip(tmp_path, late=4)
    speech = write_wav(tmp_path / "speech.wav", talking_clip(tmp_path).audio)
    metric = SHORT(audio="driving")
    assert value(score(clip, metric, speech=speech), "Sync offset") == 0
    assert value(score(clip, SHORT(), speech=speech), "Sync offset") == -4
    assert reason(lambda: score(clip, metric)) == "no_driving_audio"
    assert "driving audio" in metric.footnotes[0] and "own audio" in SHORT().footnotes[0]


def test_masked_columns_are_added(tmp_path: Path) -> None:
    clip = talking_clip(tmp_path, late=15)
    plain, masked = score(clip, SHORT()), score(clip, SHORT(masked=True))
    assert set(masked.values) - set(plain.values) == {"Sync-C masked (builtin)", "Sync-D masked (builtin)"}
    assert value(masked, "Sync-D masked") < value(masked, "Sync-D") == value(plain, "Sync-D")


@pytest.mark.parametrize("masked", [False, True])
def test_sound_that_most_shifts_do_not_meet_has_no_value(tmp_path: Path, masked: bool) -> None:
    """Of fewer than 16 windows the farthest shifts would compare with padding alone; of few, Sync-C would be 0."""
    clip = talking_clip(tmp_path)
    brief = [ArrayClip(clip.frames, clip.audio[: 640 * frames], path=clip.path) for frames in (6, 20, 21)]
    for short in brief[:2]:
        assert reason(lambda short=short: score(short, SHORT(masked=masked))) == "clip_too_short"  # type: ignore[misc]
    found = score(brief[2], SHORT(masked=masked))
    assert all(value(found, name) > 0 for name in ("Sync-C", "Sync-D"))
    with pytest.raises(SampleError, match=r"more than 20 frames .* and 0\.84 s of sound"):
        score(brief[1], SHORT(min_track=3))


def test_one_straying_box_costs_one_frame(tmp_path: Path) -> None:
    clip = talking_clip(tmp_path)
    box = clip.path.with_name(f"{clip.path.stem}.faces.json")
    faces = json.loads(box.read_text())["faces"]
    box.write_text(json.dumps({"fps": 25, "faces": [*faces[:9], [30, 30, 31, 31], *faces[10:]]}))
    found = score(clip, SHORT())
    (track,) = found.details["tracks"]
    assert (track["frames"], track["seen"]) == ([0, 40], 39)
    assert value(found, "Sync offset") == 0


# Whose value it is ----------------------------------------------------------------------------------------------------


def shots(tmp_path: Path, first: int, second: int) -> ArrayClip:
    """Two shots of different colour, of which the second's sound is 3 frames late."""
    one, two = talking_clip(tmp_path, first), talking_clip(tmp_path, second, 3, seed=1)
    flashy = np.where(two.frames == 60, 250, two.frames).astype(np.uint8)
    flashy[..., 1] = np.where(two.frames[..., 1] == 60, 0, flashy[..., 1])
    clip = ArrayClip(
        np.concatenate([one.frames, flashy]), np.concatenate([one.audio, two.audio]), path=tmp_path / "j.mp4"
    )
    write_faces(tmp_path / "j.faces.json", first + second)
    return clip


@pytest.mark.parametrize(("first", "second", "offset"), [(50, 30, 0), (30, 50, -3)])
def test_the_longest_track_gives_the_value(tmp_path: Path, first: int, second: int, offset: int) -> None:
    found = score(shots(tmp_path, first, second), SHORT())
    tracks = found.details["tracks"]
    assert [track["frames"] for track in tracks] == [[0, first], [first, first + second]]
    assert [(track["shot"], track["offset"]) for track in tracks] == [(0, 0), (1, -3)]
    chosen = tracks[found.details["chosen"]]
    assert chosen["offset"] == offset == value(found, "Sync offset")
    assert (chosen["confidence"], chosen["distance"]) == (value(found, "Sync-C"), value(found, "Sync-D"))


def test_of_equally_long_tracks_the_larger_face_gives_the_value(tmp_path: Path) -> None:
    """Two faces side by side: the left one's box is larger, and only the right one follows the sound."""
    right, left = talking_clip(tmp_path, 40), talking_clip(tmp_path, 40, seed=1)
    path = tmp_path / "two.mp4"
    boxes = [[0.02, 0.02, 0.48, 0.98], [0.5 + FACE[0] / 2, FACE[1], 0.5 + FACE[2] / 2, FACE[3]]]
    path.with_name("two.faces.json").write_text(json.dumps({"fps": 25, "faces": [boxes] * 40}))
    clip = ArrayClip(np.concatenate([left.frames, right.frames], axis=2), right.audio, path=path)
    found = score(clip, SHORT())
    assert [track["offset"] == 0 for track in found.details["tracks"]] == [False, True]
    assert found.details["chosen"] == 0
    assert value(found, "Sync-C") == found.details["tracks"][0]["confidence"]


def test_details_say_where_the_boxes_come_from(tmp_path: Path) -> None:
    clip = talking_clip(tmp_path)
    assert score(clip, SHORT()).details["faces"] == "sidecar"
    manifest = write_faces(tmp_path / "item.json", 40)
    found = score(clip, SHORT(), faces=manifest)
    assert (found.details["faces"], found.details["mode"]) == ("manifest", "direct")
    assert found.details["tracks"][0]["box"] == pytest.approx(list(FACE))


# Rates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [16, 30])
@pytest.mark.parametrize("policy", [MediaPolicy(), MediaPolicy(fps=None), MediaPolicy(fps=10.0)])
def test_clips_of_other_rates_are_scored_whole(tmp_path: Path, fps: int, policy: MediaPolicy) -> None:
    audio, seconds = babble(50), 2
    at_25 = talking_square(audio, 50)
    shown = at_25[[min(49, int(k / fps * 25)) for k in range(seconds * fps)]]
    path = encode(tmp_path / "clip.mp4", shown, fps, audio, crf=1)
    write_faces(tmp_path / "clip.faces.json", seconds * fps, fps=fps)
    with MediaClip(path, policy) as clip:
        found = {mode: score(clip, SHORT(mode=mode)) for mode in ("direct", "reference")}
        assert all(one.details["tracks"][0]["frames"] == [0, 50] for one in found.values())
        assert value(found["direct"], "Sync in time") == 1
        assert score(clip, SHORT(mode="direct")).values == found["direct"].values


def test_a_clip_in_memory_of_another_rate_is_resampled(tmp_path: Path) -> None:
    clip = talking_clip(tmp_path)
    twice = ArrayClip(np.repeat(clip.frames, 2, axis=0), clip.audio, fps=50.0, path=clip.path)
    assert score(twice, SHORT()).details["tracks"][0]["frames"] == [0, 40]


# No value -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["direct", "reference"])
def test_every_failure_has_its_reason(tmp_path: Path, mode: Any) -> None:
    clip, metric = talking_clip(tmp_path), SHORT(mode=mode)
    box = clip.path.with_name(f"{clip.path.stem}.faces.json")

    def with_audio(audio: Any) -> ArrayClip:
        return ArrayClip(clip.frames, audio, path=clip.path)

    with pytest.raises(NoAudioError):
        score(with_audio(None), metric)
    with pytest.raises(SilentAudioError, match=r"never exceeds 0\.001 of full scale"):
        score(with_audio(0.0005 * np.sin(np.arange(len(clip.audio))).astype(np.float32)), metric)
    assert reason(lambda: score(with_audio(clip.audio[:1000]), metric)) == "clip_too_short"
    assert reason(lambda: score(clip, replace(metric, min_track=40))) == "clip_too_short"
    assert reason(lambda: score(clip, replace(metric, min_face_px=SIDE))) == "face_too_small"
    write_faces(box, 15)
    assert reason(lambda: score(clip, metric)) == "track_too_short"
    write_faces(box, 40, None)
    assert reason(lambda: score(clip, metric)) == "no_face"
    box.write_text("[]")
    assert reason(lambda: score(clip, metric)) == "bad_face_boxes"
    box.unlink()
    assert reason(lambda: score(clip, metric)) == "no_face"  # nor does the cascade see one
    assert reason(lambda: score(clip, replace(metric, faces="sidecar"))) == "no_face_boxes"


# What it is called, and what it needs ---------------------------------------------------------------------------------


def test_columns_are_named_by_what_makes_another_number() -> None:
    assert list(Sync().columns) == ["Sync-C", "Sync-D", "Sync offset", "Sync in time"]
    assert list(Sync(mode="reference").columns) == list(Sync().columns)
    assert next(iter(Sync(mode="direct").columns)) == "Sync-C (direct)"
    assert next(iter(Sync(weights_file="my/net.model").columns)) == "Sync-C (net.model)"
    assert next(iter(Sync(weights="builtin").columns)) == "Sync-C (builtin)"
    assert next(iter(Sync(weights="builtin", mode="reference").columns)) == "Sync-C (builtin, reference)"
    better = [column.better for column in Sync().columns.values()]
    assert better == ["higher", "lower", "neither", "higher"]


def test_the_footer_says_which_boxes_a_run_used() -> None:
    one = {"faces": "manifest", "tracks": [{}]}
    notes = SHORT().findings([one, one, {"faces": "haar", "tracks": [{}, {}]}])
    assert "found by OpenCV's Haar cascade: 1 clip, stated by the data set: 2 clips" in notes[0]
    assert "1 clip with several face tracks" in notes[1]
    assert SHORT().findings([]) == []


def test_footnotes_state_the_protocol() -> None:
    assert "syncnet_v2.model, reference mode" in Sync().footnotes[0] and "S3FD" in Sync().footnotes[1]
    assert "not comparable" in SHORT().footnotes[0] and "over 20 frames" in SHORT().footnotes[0]
    assert "Haar" in SHORT().footnotes[1] and "S3FD" not in SHORT().footnotes[1]
    assert len(Sync(masked=True).footnotes) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "fast"},
        {"faces": "yolo"},
        {"weights": "none"},
        {"audio": "both"},
        {"min_track": -1},
        {"weights": "builtin", "weights_file": "x"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the rule is|leave out weights_file"):
        Sync(**options)


def test_missing_weights_are_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"(?s)syncnet_v2\.model.*sfd_face\.pth"):
        _ = Sync().fingerprint
    with pytest.raises(WeightsError) as caught:
        _ = Sync(faces="manifest").fingerprint
    assert "sfd_face" not in str(caught.value)
    with pytest.raises(WeightsError, match="does not exist"):
        _ = Sync(weights_file=str(tmp_path / "none.model"), faces="haar").fingerprint


def test_the_fingerprint_holds_weights_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.model"
    file.write_bytes(b"weights")
    own = functools.partial(Sync, weights_file=str(file), faces="haar")
    prints = {own(**options).fingerprint for options in ({}, {"mode": "direct"}, {"masked": True}, {"min_track": 50})}
    assert len(prints) == 4
    before = own().fingerprint
    assert before == own(device="cpu").fingerprint
    file.write_bytes(b"others")
    assert own().fingerprint != before
    # with S3FD its weights count too
    monkeypatch.setattr(weight_files, "require", lambda name: tmp_path / name)
    monkeypatch.setattr(weight_files, "digest_of", str)
    assert own(faces="auto").fingerprint != own().fingerprint
