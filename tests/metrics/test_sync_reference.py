from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lt_eval.errors import DamagedError, NoAudioError, UnscorableError
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import read_audio
from lt_eval.metrics import sync_reference
from lt_eval.metrics.sync_mp3 import Mp3Sound, mp3_round_trip
from lt_eval.metrics.sync_reference import reference_footage, round_trip
from lt_eval.records import Box, Frames, MediaPolicy
from lt_eval.testing.fakes import ArrayClip
from tests.clips import moving_frames, tone, write_wav
from tests.media.making import Track, clicks, make_file, needs_ffmpeg, set_display_matrix


def psnr_db(one: NDArray[Any], other: NDArray[Any]) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-12)))


def clip_file(path: Path, count: int = 30, rate_hz: int = 44_100, side: int = 96, **options: Any) -> Path:
    samples = np.tile(clicks(rate_hz, count / 25, [0.5] if count > 13 else []) // 2, (2, 1))
    samples += np.random.default_rng(0).integers(-500, 500, samples.shape, dtype=np.int16)
    return make_file(
        path, moving_frames(0, count, side), range(count), Fraction(1, 25), Track(samples, rate_hz), **options
    )


def shell(command: str, folder: Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *command.split()], cwd=folder, check=True)


# Beside the ffmpeg command --------------------------------------------------------------------------------------------


@needs_ffmpeg
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_pictures_and_sound_are_those_of_the_ffmpeg_command(tmp_path: Path, rate_hz: int) -> None:
    path = clip_file(tmp_path / "clip.mov", rate_hz=rate_hz)
    shell("-i clip.mov -qscale:v 2 -threads 1 -async 1 -r 25 video.avi", tmp_path)
    shell("-i video.avi -qscale:v 2 -threads 1 -f image2 %06d.jpg", tmp_path)
    shell("-i video.avi -ac 1 -vn -acodec pcm_s16le -ar 16000 audio.wav", tmp_path)
    with MediaClip(path) as clip:
        footage = reference_footage(clip)
    names = sorted(tmp_path.glob("*.jpg"))[: len(footage.pictures)]
    theirs = [np.asarray(cv2.imread(str(name), cv2.IMREAD_COLOR_RGB)) for name in names]
    ours = [footage.pictures[k] for k in range(len(footage.pictures))]
    assert len(ours) == 30
    # every picture is shown at the same place, also where the first one stays until the sound may begin
    assert all(psnr_db(one, other) > 40 for one, other in zip(ours, theirs, strict=True))
    heard = np.rint(read_audio(tmp_path / "audio.wav") * 32768)
    assert len(heard) == len(footage.audio)
    assert np.abs(heard - footage.audio).max() <= 2


@needs_ffmpeg
@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_levels_of_full_range_are_those_of_the_ffmpeg_command(tmp_path: Path, pix_fmt: str) -> None:
    """As phones and screen recorders write them: 0 is black and 255 white."""
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    picture = np.stack([*np.meshgrid(ramp, ramp), np.full((96, 96), 128, np.uint8)], axis=-1)
    sound = Track(np.zeros((2, 44_100), np.int16), 44_100)
    path = make_file(
        tmp_path / "clip.mov", np.stack([picture] * 25), range(25), Fraction(1, 25), sound, pix_fmt=pix_fmt
    )
    shell("-i clip.mov -qscale:v 2 -threads 1 -async 1 -r 25 video.avi", tmp_path)
    shell("-i video.avi -qscale:v 2 -threads 1 -f image2 %06d.jpg", tmp_path)
    with MediaClip(path) as clip:
        ours, canonical = np.asarray(reference_footage(clip).pictures[20], np.int64), clip.frames[20]
    theirs = np.asarray(cv2.imread(str(tmp_path / "000021.jpg"), cv2.IMREAD_COLOR_RGB))
    # other samplings are converted by libswscale, whose rounding differs between versions
    assert np.abs(ours - theirs).mean() < (0.1 if pix_fmt == "yuvj420p" else 1)
    assert np.abs(ours - canonical).mean() < 2


@needs_ffmpeg
def test_face_clips_are_those_of_opencv_and_the_ffmpeg_command(tmp_path: Path) -> None:
    crops = moving_frames(1, 40, 224)
    fourcc = cv2.VideoWriter.fourcc(*"XVID")
    writer = cv2.VideoWriter(str(tmp_path / "crop.avi"), fourcc, 25, (224, 224))
    for crop in crops:
        writer.write(np.ascontiguousarray(crop[..., ::-1]))
    writer.release()
    shell("-i crop.avi -threads 1 -f image2 %06d.jpg", tmp_path)
    theirs = [np.asarray(cv2.imread(str(name), cv2.IMREAD_COLOR_RGB)) for name in sorted(tmp_path.glob("*.jpg"))]
    ours = list(round_trip(crops))
    assert len(ours) == len(theirs) == 40
    equal = sum(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert equal >= 36  # mjpeg's rate control now and then takes the next quantiser with another libavcodec


# By itself ------------------------------------------------------------------------------------------------------------


def test_pictures_are_those_of_the_clip_a_little_worse(tmp_path: Path) -> None:
    with MediaClip(clip_file(tmp_path / "clip.mov")) as clip:
        footage = reference_footage(clip)
        assert list(footage.instants[:4]) == [0, 1, 1, 2]
        assert footage.shots == [(0, 30)]
        found = [psnr_db(footage.pictures[k], clip.frames[instant]) for k, instant in enumerate(footage.instants)]
    assert min(found) > 27


@pytest.mark.parametrize(
    ("options", "late"),
    [({"rate_hz": 8_000}, 4), ({"rate_hz": 16_000}, 2), ({"rate_hz": 48_000}, 1), ({"count": 1}, 1)],
)
def test_the_first_picture_stays_as_long_as_mp3_is_late(tmp_path: Path, options: dict[str, int], late: int) -> None:
    with MediaClip(clip_file(tmp_path / "clip.mov", **options)) as clip:
        footage = reference_footage(clip)
    count = options.get("count", 30)
    assert len(footage.pictures) == len(footage.instants) == count
    assert list(footage.instants[:late]) == [0] * min(late, count)
    assert list(footage.instants[late : late + 3]) == [1, 1, 2][: max(0, count - late)]


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_sound_is_late_by_the_delay_of_mp3(tmp_path: Path, rate_hz: int) -> None:
    with MediaClip(clip_file(tmp_path / "clip.mov", rate_hz=rate_hz)) as clip:
        audio = reference_footage(clip).audio
    assert np.abs(audio.astype(int)).argmax() / 16_000 == pytest.approx(0.5 + 1105 / rate_hz, abs=2e-3)


def test_pictures_that_cannot_be_taken_as_they_are_go_through_the_canonical_frames(tmp_path: Path) -> None:
    upright = clip_file(tmp_path / "clip.mp4", side=64, options={"bf": "0"})
    turned = Path(shutil.copy(upright, tmp_path / "turned.mp4"))
    set_display_matrix(turned, (0, 1, -1, 0))
    with MediaClip(upright) as plain, MediaClip(turned) as sideways:
        one, other = reference_footage(plain), reference_footage(sideways)
        assert psnr_db(other.pictures[9], np.rot90(one.pictures[9], -1)) > 24
        assert psnr_db(other.pictures[9], sideways.frames[other.instants[9]]) > 24
        np.testing.assert_array_equal(one.audio, other.audio)
    policy, content = MediaPolicy(size=48), Box(0.0, 0.0, 0.5, 1.0)
    with MediaClip(upright, policy, content) as cut:
        footage = reference_footage(cut)
        assert psnr_db(footage.pictures[9], cut.frames[footage.instants[9]]) > 24


def test_an_odd_side_loses_its_last_line(tmp_path: Path) -> None:
    clip = ArrayClip(moving_frames(0, 8, 64)[:, :51, :33], tone(0, 0.4))
    assert reference_footage(clip).pictures[3].shape == (50, 32, 3)
    with pytest.raises(UnscorableError, match="33x1 pixels"):
        reference_footage(ArrayClip(clip.frames[:, :1], clip.audio))


def test_a_clip_in_memory_and_its_file_are_alike(tmp_path: Path) -> None:
    path = clip_file(tmp_path / "clip.mov", rate_hz=16_000)
    with MediaClip(path) as clip:
        one, other = reference_footage(clip), reference_footage(ArrayClip(clip.frames, clip.audio))
    assert psnr_db(one.pictures[20], other.pictures[20]) > 30
    assert len(one.audio) == len(other.audio)
    assert np.abs(one.audio.astype(int)).argmax() == np.abs(other.audio.astype(int)).argmax()


def test_many_pictures_go_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = ArrayClip(moving_frames(0, 12), tone(0, 0.5))
    kept = reference_footage(clip).pictures
    monkeypatch.setattr(sync_reference, "_IN_MEMORY_BYTES", 1000)
    spilled = reference_footage(clip).pictures
    for number in (11, 0, 5):
        np.testing.assert_array_equal(kept[number], spilled[number])


def test_driving_audio_takes_the_place_of_the_clip_s(tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "speech.wav", tone(3, 1.0))
    with MediaClip(clip_file(tmp_path / "clip.mov")) as clip:
        footage = reference_footage(clip, speech)
    assert list(footage.instants[:3]) == [0, 0, 1]  # 16 kHz
    assert abs(np.fft.rfft(footage.audio[4000:12_000])).argmax() * 2 == pytest.approx(320, abs=2)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    mute = make_file(tmp_path / "mute.mov", moving_frames(0, 8), range(8), Fraction(1, 25))
    with MediaClip(mute) as clip, pytest.raises(NoAudioError):
        reference_footage(clip)
    whole = clip_file(tmp_path / "clip.avi")
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with MediaClip(whole) as clip, pytest.raises(DamagedError):
        reference_footage(clip)
    with MediaClip(clip_file(tmp_path / "clip.mov")) as clip, pytest.raises(NoAudioError):
        reference_footage(clip, mute)


def sound(samples: NDArray[np.int16], rate_hz: int, start: int = 0) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
    return frame


def test_sound_is_placed_by_its_time() -> None:
    click = clicks(16_000, 0.5, [0.25])[0]
    on_time, _ = mp3_round_trip([sound(click, 16_000)], Fraction(0))
    late, _ = mp3_round_trip([sound(click, 16_000, 3200)], Fraction(0))
    cut, _ = mp3_round_trip([sound(click, 16_000, 3200)], Fraction(3, 10))
    at = [int(np.abs(samples.astype(int)).argmax()) for samples in (on_time, late, cut)]
    assert at[1] - at[0] == 3200 and at[2] - at[0] == 3200 - 4800


def test_a_change_of_rate_on_the_way_is_heard() -> None:
    click = clicks(16_000, 0.5, [0.25])[0]
    other = clicks(32_000, 0.5, [0.25])[0]
    heard, rate_hz = mp3_round_trip([sound(click, 16_000), sound(other, 32_000, 16_000)], Fraction(0))
    peaks = np.abs(heard.astype(int)) > 8_000
    assert rate_hz == 16_000
    assert np.flatnonzero(peaks)[[0, -1]] / 16_000 - 1105 / 16_000 == pytest.approx([0.25, 0.75], abs=2e-3)


def test_sound_waits_only_for_the_first_picture() -> None:
    """Hours of it are held as 16 kHz mono, not as decoded; and the samples do not depend on when time 0 was known."""
    noise = np.random.default_rng(0).integers(-8_000, 8_000, (200, 1024), dtype=np.int16)

    def frames() -> list[av.AudioFrame]:
        return [sound(part, 44_100, 1024 * k + 500) for k, part in enumerate(noise)]

    origin_s = Fraction(700, 44_100)
    known: list[Fraction] = []
    early, late = Mp3Sound(lambda: known[0] if known else None), Mp3Sound(lambda: None)
    held = []
    for number, (one, other) in enumerate(zip(frames(), frames(), strict=True)):
        known += [origin_s] if number == 5 else []
        early.add(one)
        late.add(other)
        held.append(len(early._waiting))
    assert max(held) == 5 and held[5:] == [0] * 195 and len(late._waiting) == 200
    whole, _ = mp3_round_trip(frames(), origin_s)
    for track in (early, late):
        assert track.start_s == Fraction(500, 44_100)
        assert np.array_equal(np.rint(track.finish(origin_s) * 32768).astype(np.int16), whole)
        assert track.rate_hz == 44_100


def frames_of(count: int) -> Frames:
    return moving_frames(2, count, 224)


def test_face_clips_lose_detail_and_no_frame() -> None:
    crops = frames_of(12)
    found = list(round_trip(iter(crops)))
    assert len(found) == 12
    assert all(20 < psnr_db(one, other) < 60 for one, other in zip(found, crops, strict=True))
