"""A cut from a long video equals the same stretch of the whole, picture and sound."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from lt_eval.datasets.segment import Segment, sound
from lt_eval.errors import DamagedError, NoAudioError, SilentAudioError, UnscorableError
from lt_eval.media.clip import MediaClip
from lt_eval.media.encode import encode
from lt_eval.records import MediaPolicy
from tests.datasets import raw


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds with a key frame every 250 frames at most: seeking lands far from most frames."""
    return raw.video(tmp_path_factory.mktemp("raw") / "long.mp4", seconds=10)


def remuxed(path: Path, extension: str) -> Path:
    """The same packets in another container."""
    out = path.with_suffix(extension)
    with av.open(str(path)) as source, av.open(str(out), "w") as sink:
        pairs = {stream.index: sink.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = pairs[packet.stream.index]
                sink.mux(packet)
    return out


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("start_s", [0.0, 0.52, 3.3, 7.999, 8.96])
def test_the_right_frames_are_cut(long_video: Path, extension: str, start_s: float) -> None:
    """Frames carry their number, so a cut that is off by one is seen; between two frames the next one begins it."""
    path = long_video if extension == ".mp4" else remuxed(long_video, extension)
    segment = Segment(path, start_s, 25, 25.0)
    first = int(np.ceil(start_s * 25 - 0.05))
    assert [raw.number_in(frame) for frame in segment] == list(range(first, first + 25))
    assert float(segment.origin_s) == pytest.approx(first / 25, abs=1e-3)


@pytest.mark.parametrize("start_s", [1.0, 3.32, 7.96])
def test_sound_is_cut_at_the_very_frame(long_video: Path, start_s: float) -> None:
    """The clicks lie on whole seconds; one lies in each cut, at its place to within a sample."""
    segment = Segment(long_video, start_s, 25, 25.0)
    next(iter(segment))
    samples = sound(long_video, segment.origin_s, 1.0)
    assert samples.shape == (16_000,) and samples.dtype == np.float32
    expected = round((np.ceil(start_s) - start_s) * 16_000)
    assert abs(int(np.argmax(samples)) - expected) <= 1


def decoded_to(path: Path, count: int) -> tuple[list[float], NDArray[np.uint8]]:
    """Times after the first of the first frames, and the last of them, by decoding from the start."""
    with av.open(str(path)) as container:
        frames = list(itertools.islice(container.decode(container.streams.video[0]), count))
    times = [frame.time - frames[0].time for frame in frames if frame.time is not None and frames[0].time is not None]
    return times, frames[-1].to_ndarray(format="rgb24").astype(np.uint8)


@pytest.mark.parametrize("name", ["face1.mp4", "hdtf_like_512.mp4", "portrait_hevc_1080x1920_30fps.mp4"])
def test_a_cut_of_a_real_clip_starts_with_the_right_frame(real_media: Path, name: str) -> None:
    """At 22, 25 and 30 frames a second, with sound that starts before the picture and HEVC with reordered frames."""
    path = real_media / "video" / name
    times, last = decoded_to(path, 60)
    assert np.array_equal(next(iter(Segment(path, times[-1], 1, 25.0))), last)


@pytest.mark.parametrize("name", ["face1.mp4", "hdtf_like_512.mp4"])
def test_the_sound_of_a_cut_is_that_of_the_whole(real_media: Path, name: str) -> None:
    """Decoding from the middle gives the sound of decoding from the start, in place to a sample (both round to one)."""
    path = real_media / "video" / name
    whole = MediaClip(path, MediaPolicy(size=16)).audio[32_000:48_000]
    cut = sound(path, Fraction(2), 1.0)
    likeness = [np.corrcoef(np.roll(cut, lag), whole)[0, 1] for lag in range(-3, 4)]
    assert abs(int(np.argmax(likeness)) - 3) <= 1 and max(likeness) > 0.97


def test_other_rates_are_resampled_by_time(long_video: Path) -> None:
    """Five frames a second of 25 show every fifth, to within the rounding of half an interval."""
    numbers = [raw.number_in(frame) for frame in Segment(long_video, 2.0, 10, 5.0)]
    assert np.all(np.abs(np.asarray(numbers) - np.arange(50, 100, 5)) <= 2)
    assert np.all(np.diff(numbers) == 5) or numbers[0] == 50


def test_a_video_that_ends_too_soon_is_too_short(long_video: Path) -> None:
    with pytest.raises(UnscorableError, match=r"ends 0\.40 s after 9\.60 s, and 1\.00 s are needed") as caught:
        list(Segment(long_video, 9.6, 25, 25.0))
    assert caught.value.code == "too_short"
    with pytest.raises(UnscorableError, match=r"ends 0\.00 s after 20\.00 s"):
        list(Segment(long_video, 20.0, 25, 25.0))


def test_missing_and_silent_sound_are_told_apart(tmp_path: Path) -> None:
    mute = raw.video(tmp_path / "mute.mp4", sound=False)
    silent = encode(tmp_path / "silent.mp4", raw.bars(50), 25, np.zeros(32_000, np.float32))
    short = encode(tmp_path / "short.mp4", raw.bars(50), 25, raw.hum(1.0))
    with pytest.raises(NoAudioError, match="holds no audio stream"):
        sound(mute, Fraction(0), 1.0)
    with pytest.raises(SilentAudioError, match=r"is silent from 0\.50 s on"):
        sound(silent, Fraction(1, 2), 1.0)
    with pytest.raises(NoAudioError, match=r"has no sound after 1\.\d\d s"):
        sound(short, Fraction(1, 2), 1.0)


def test_a_hole_in_the_picture_is_damage(tmp_path: Path) -> None:
    """Two seconds without a frame are lost data or a still; frames before and after are fine."""
    path = tmp_path / "hole.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index, pixels in enumerate(raw.bars(50)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index + 50 * (index >= 25), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(list(Segment(path, 0.0, 20, 25.0))) == 20
    with pytest.raises(DamagedError, match=r"has no frame between 0\.96 and 3\.00 s"):
        list(Segment(path, 0.0, 50, 25.0))
