from __future__ import annotations

import subprocess
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from lt_eval.errors import NoAudioError
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import CHUNK, Decoding, read_audio
from lt_eval.media.probe import probe
from lt_eval.media.resample import exact_rate, source_of_each
from lt_eval.records import Box, MediaPolicy
from tests.media.making import (
    MILLISECOND,
    Track,
    clicks,
    heard_at,
    make_file,
    needs_ffmpeg,
    numbered,
    regular,
    set_display_matrix,
    shown,
)

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = MediaPolicy(fps=None)
IRREGULAR = [0, 33, 67, 167, 180, 200, 233, 300, 420, 433, 467, 800, 833, 867]


@pytest.mark.parametrize(
    ("fps", "count", "expected"), [(25, 50, 50), (16, 81, 127), (30, 60, 50), (60, 61, 25), (8, 1, 3)]
)
def test_constant_rates_keep_their_length(tmp_path: Path, fps: int, count: int, expected: int) -> None:
    with MediaClip(regular(tmp_path / "clip.mp4", fps, count)) as clip:
        assert len(clip.frames) == expected
        starts = [Fraction(k, fps) for k in range(count)]
        assert shown(clip.frames) == source_of_each(starts, Fraction(count, fps), Fraction(25))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_variable_rate_goes_by_timestamps(tmp_path: Path, name: str) -> None:
    path = make_file(tmp_path / name, numbered(len(IRREGULAR)), IRREGULAR, lasts=33)
    with MediaClip(path) as clip, MediaClip(path, NATIVE) as native:
        starts = [t * MILLISECOND for t in IRREGULAR]
        assert shown(clip.frames) == source_of_each(starts, starts[-1] + 33 * MILLISECOND, Fraction(25))
        assert shown(native.frames) == list(range(len(IRREGULAR)))
        assert native.fps == pytest.approx(len(IRREGULAR) / 0.9, rel=1e-3)
        assert clip.info.variable_rate


def test_22_13_fps_in_a_container_that_says_30(tmp_path: Path) -> None:
    # What a webcam that cannot keep up writes: pictures at 22.13 fps, each at the next 30th of a second.
    starts = [round(k * 30 / 22.13) for k in range(66)]
    path = make_file(tmp_path / "clip.mp4", numbered(66), starts, Fraction(1, 30))
    end = Fraction(starts[-1] + 1, 30)
    with MediaClip(path) as clip:
        assert clip.info.fps == pytest.approx(66 / end)
        assert clip.info.variable_rate
        assert shown(clip.frames) == source_of_each([Fraction(k, 30) for k in starts], end, Fraction(25))


@pytest.mark.parametrize("fps", [30_000 / 1001, 22.13])
def test_any_policy_rate(tmp_path: Path, fps: float) -> None:
    with MediaClip(regular(tmp_path / "clip.mp4", 25, 50), MediaPolicy(fps=fps)) as clip:
        assert clip.fps == fps
        starts = [Fraction(k, 25) for k in range(50)]
        assert shown(clip.frames) == source_of_each(starts, Fraction(2), exact_rate(fps))


@needs_ffmpeg
@pytest.mark.parametrize("fps", ["25", "30000/1001", "12"])
def test_the_same_frames_as_ffmpeg(tmp_path: Path, fps: str) -> None:
    path = make_file(tmp_path / "clip.mp4", numbered(len(IRREGULAR)), IRREGULAR, lasts=33)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(path),
        "-vf",
        f"fps={fps}",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    theirs = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    with MediaClip(path, MediaPolicy(fps=float(Fraction(fps)))) as clip:
        assert shown(clip.frames) == shown(theirs.reshape(-1, 48, 64, 3))


def test_one_frame_is_one_frame(tmp_path: Path) -> None:
    with MediaClip(regular(tmp_path / "clip.mp4", 25, 1)) as clip:
        assert clip.frames.shape == (1, 48, 64, 3)
        assert clip.fps == 25


def test_frames_come_in_small_chunks(tmp_path: Path) -> None:
    chunks = [len(chunk) for chunk in Decoding(regular(tmp_path / "clip.mp4", 25, 50))]
    assert chunks == [CHUNK, CHUNK, CHUNK, 2]


def test_the_given_portrait_may_be_left_out(tmp_path: Path) -> None:
    path = regular(tmp_path / "clip.mov", 16, 20, Track(clicks(16_000, 1, [0.5]), 16_000))
    with MediaClip(path, MediaPolicy(fps=None, skip_first_frame=True)) as clip:
        assert shown(clip.frames) == list(range(1, 20))
        assert heard_at(clip.audio, 0.5 - 1 / 16) == pytest.approx(0.5 - 1 / 16, abs=1e-3)
        assert clip.info.frames == 19


@pytest.mark.parametrize(("height", "width"), [(47, 65), (33, 31), (1, 2)])
def test_odd_sizes(tmp_path: Path, height: int, width: int) -> None:
    path = make_file(
        tmp_path / "clip.mkv", numbered(5, height, width), range(5), Fraction(1, 25), codec="ffv1", pix_fmt="bgr0"
    )
    with MediaClip(path) as clip:
        assert clip.frames.shape == (5, height, width, 3)
        assert shown(clip.frames) == list(range(5))


def test_hevc_portrait_at_30_fps(tmp_path: Path) -> None:
    if "libx265" not in av.codecs_available:
        pytest.skip("this build of PyAV cannot write HEVC")
    path = make_file(
        tmp_path / "clip.mp4",
        numbered(30, 128, 72),
        range(30),
        Fraction(1, 30),
        codec="libx265",
        options={"x265-params": "lossless=1:log-level=none", "preset": "ultrafast"},
    )
    with MediaClip(path) as clip:
        assert clip.info.codec == "hevc" and (clip.info.width, clip.info.height) == (72, 128)
        assert shown(clip.frames) == source_of_each([Fraction(k, 30) for k in range(30)], Fraction(1), Fraction(25))


def corners() -> Any:
    """One wide picture: red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((1, 32, 64, 3), np.uint8)
    picture[0, :16, :32, 0] = 255
    picture[0, :16, 32:, 1] = 255
    picture[0, 16:, :32, 2] = 255
    picture[0, 16:, 32:] = 255
    return picture


TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1)]
TOP_LEFT = ["red", "blue", "white", "green", "green", "blue"]
COLOURS = {"red": [255, 0, 0], "green": [0, 255, 0], "blue": [0, 0, 255], "white": [255, 255, 255]}


@pytest.mark.parametrize(("turn", "colour"), list(zip(TURNS, TOP_LEFT, strict=True)))
def test_pictures_are_turned_as_the_file_asks(tmp_path: Path, turn: tuple[int, int, int, int], colour: str) -> None:
    path = make_file(tmp_path / "clip.mp4", corners(), [0], Fraction(1, 25))
    set_display_matrix(path, turn)
    with MediaClip(path) as clip:
        picture = clip.frames[0]
        assert np.abs(picture[4, 4].astype(int) - COLOURS[colour]).max() < 12
        assert (clip.info.height, clip.info.width) == picture.shape[:2] == ((64, 32) if turn[0] == 0 else (32, 64))
        assert probe(path) == clip.info


@needs_ffmpeg
@pytest.mark.parametrize("turn", TURNS)
def test_pictures_are_turned_as_ffmpeg_does(tmp_path: Path, turn: tuple[int, int, int, int]) -> None:
    path = make_file(tmp_path / "clip.mp4", corners(), [0], Fraction(1, 25))
    set_display_matrix(path, turn)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    theirs = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    with MediaClip(path) as clip:
        assert np.abs(clip.frames[0].astype(int) - theirs.reshape(clip.frames[0].shape)).max() < 24


def test_bars_are_cut_before_fitting(tmp_path: Path) -> None:
    frames = np.zeros((3, 96, 64, 3), np.uint8)
    frames[:, 16:80] = 180
    path = make_file(tmp_path / "clip.mp4", frames, range(3), Fraction(1, 25))
    content = Box(0, 16 / 96, 1, 80 / 96)
    with MediaClip(path, MediaPolicy(size=32), content) as clip:
        assert clip.frames.shape == (3, 32, 32, 3)
        assert np.abs(clip.frames.astype(int) - 180).max() <= 2


@pytest.mark.parametrize(
    ("matrix", "tag", "full_range"),
    [
        (Colorspace.ITU709, 1, False),
        (Colorspace.ITU601, 6, False),
        (Colorspace.ITU601, 5, True),
        (Colorspace.ITU709, 1, True),
        (Colorspace.ITU601, 2, False),
    ],
)
def test_colour_follows_the_tags_and_an_untagged_file_is_bt601(
    tmp_path: Path, matrix: Colorspace, tag: int, full_range: bool
) -> None:
    colour = np.array([200, 60, 90], np.uint8)
    pixels = np.broadcast_to(colour, (32, 32, 3)).copy()
    color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    with av.open(tmp_path / "clip.mp4", "w") as out:
        video: Any = out.add_stream("libx264", rate=25, options={"qp": "1"})
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        video.codec_context.colorspace = tag
        video.codec_context.color_range = color_range if tag != 2 else ColorRange.UNSPECIFIED
        rgb = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=color_range)
        frame.colorspace = tag
        frame.pts = 0
        out.mux([*video.encode(frame), *video.encode(None)])
    with MediaClip(tmp_path / "clip.mp4") as clip:
        assert np.abs(clip.frames[0, 16, 16].astype(int) - colour).max() <= 3


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1), (22_050, 2)])
def test_sound_is_mono_16_khz_in_time(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = regular(tmp_path / "clip.mov", 25, 50, Track(clicks(rate_hz, 2, [0.3, 1.5], channels), rate_hz))
    with MediaClip(path) as clip:
        assert clip.audio.dtype == np.float32 and clip.audio.shape == (32_000,)
        for at_s in (0.3, 1.5):
            assert heard_at(clip.audio, at_s) == pytest.approx(at_s, abs=1e-3)
        assert clip.info.audio_rate_hz == rate_hz


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = np.full(16_000, 16_384, np.int16)
    path = regular(tmp_path / "clip.mov", 25, 25, Track(np.stack([left, np.zeros_like(left)]), 16_000))
    with MediaClip(path) as clip:
        assert np.allclose(clip.audio, 0.25, atol=1e-3)


@pytest.mark.parametrize(("channels", "codec"), [(6, "pcm_s16le"), (8, "pcm_s16le"), (8, "aac"), (16, "pcm_s16le")])
def test_channels_of_any_number_are_averaged(tmp_path: Path, channels: int, codec: str) -> None:
    samples = np.stack([np.full(16_000, 3_000 * (k % 8), np.int16) for k in range(channels)])
    path = regular(tmp_path / "clip.mkv", 25, 25, Track(samples, 16_000, codec=codec))
    with MediaClip(path) as clip:
        middle = clip.audio[4_000:12_000]
    # AAC's low-frequency channel holds no steady level, so it is left out of what is expected there
    wanted = samples[:, 0].mean() / 32_768
    assert np.allclose(middle, wanted, atol=1e-3 if codec != "aac" else 0.05)


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_sound_shorter_or_longer_than_the_picture_is_kept_as_it_is(tmp_path: Path, seconds: float) -> None:
    path = regular(tmp_path / "clip.mov", 25, 25, Track(clicks(16_000, seconds, [0.2]), 16_000))
    with MediaClip(path) as clip:
        assert len(clip.audio) == round(seconds * 16_000)
        assert len(clip.frames) == 25


@pytest.mark.parametrize("name", ["clip.mov", "clip.mkv"])
def test_sound_that_starts_late_is_padded(tmp_path: Path, name: str) -> None:
    sound = Track(clicks(16_000, 1, [0.25]), 16_000, start_s=Fraction(1, 2))
    with MediaClip(regular(tmp_path / name, 25, 50, sound)) as clip:
        assert clip.info.audio_start_s == pytest.approx(0.5)
        assert (clip.audio[:7_900] == 0).all()
        assert heard_at(clip.audio, 0.75) == pytest.approx(0.75, abs=1e-3)
        assert len(clip.audio) == 24_000


@pytest.mark.parametrize("name", ["clip.mov", "clip.mkv"])
def test_sound_before_the_first_picture_is_cut(tmp_path: Path, name: str) -> None:
    sound = Track(clicks(16_000, 2, [0.1, 1.0]), 16_000)
    starts = [round(0.4 * 25) + k for k in range(25)]
    with MediaClip(make_file(tmp_path / name, numbered(25), starts, Fraction(1, 25), sound)) as clip:
        assert shown(clip.frames) == list(range(25))
        assert clip.info.audio_start_s == pytest.approx(-0.4)
        assert heard_at(clip.audio, 0.6) == pytest.approx(0.6, abs=1e-3)
        assert len(clip.audio) == round(1.6 * 16_000)


def test_a_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(path, "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for index, pixels in enumerate(numbered(50)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for start in (0, 16_000):
            heard = av.AudioFrame.from_ndarray(clicks(16_000, 0.5, [0.25]), format="s16", layout="mono")
            heard.sample_rate, heard.time_base, heard.pts = 16_000, Fraction(1, 16_000), start
            out.mux(audio.encode(heard))
    with MediaClip(path) as clip:
        assert heard_at(clip.audio, 0.25) == pytest.approx(0.25, abs=1e-3)
        assert heard_at(clip.audio, 1.25) == pytest.approx(1.25, abs=1e-3)
        assert len(clip.audio) == 24_000


def test_silence_is_sound_and_no_track_is_not(tmp_path: Path) -> None:
    with MediaClip(regular(tmp_path / "silent.mov", 25, 25, Track(clicks(16_000, 1, []), 16_000))) as clip:
        assert len(clip.audio) == 16_000 and not clip.audio.any()
    with MediaClip(regular(tmp_path / "mute.mp4", 25, 25)) as clip:
        with pytest.raises(NoAudioError, match=r"mute\.mp4: holds no audio stream"):
            _ = clip.audio
        assert len(clip.frames) == 25
        assert not clip.info.has_audio


def test_read_audio_reads_sound_files_and_clips(tmp_path: Path) -> None:
    with av.open(tmp_path / "speech.wav", "w") as out:
        audio: Any = out.add_stream("pcm_s16le", rate=44_100, layout="mono")
        heard = av.AudioFrame.from_ndarray(clicks(44_100, 1, [0.5]), format="s16", layout="mono")
        heard.sample_rate = 44_100
        out.mux([*audio.encode(heard), *audio.encode(None)])
    samples = read_audio(tmp_path / "speech.wav")
    assert samples.shape == (16_000,)
    assert heard_at(samples, 0.5) == pytest.approx(0.5, abs=1e-3)
    clip = regular(tmp_path / "clip.mov", 25, 25, Track(clicks(16_000, 1, [0.5]), 16_000))
    assert heard_at(read_audio(clip), 0.5) == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(NoAudioError):
        read_audio(regular(tmp_path / "mute.mp4", 25, 5))


def test_probe_tells_the_same_without_decoding(tmp_path: Path) -> None:
    path = make_file(tmp_path / "clip.mp4", numbered(len(IRREGULAR)), IRREGULAR, lasts=33)
    with MediaClip(path) as clip:
        assert probe(path) == clip.info
