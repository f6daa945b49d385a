from __future__ import annotations

import errno
import pickle
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from lt_eval.errors import DamagedError, MediaError, MissingClipError, NoAudioError, NotAVideoError, NoVideoError
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import read_audio
from lt_eval.media.probe import lacks_bytes, probe
from lt_eval.records import MediaPolicy
from tests.media.making import Track, clicks, make_file, numbered, regular

if TYPE_CHECKING:
    from pathlib import Path

    from lt_eval.records import Frames


def refusal(path: Path, policy: MediaPolicy | None = None) -> MediaError:
    """What a caller is told, the same each time it asks."""
    with MediaClip(path, policy) as clip:
        with pytest.raises(MediaError) as first:
            _ = clip.frames
        with pytest.raises(MediaError) as second:
            _ = clip.audio
    assert first.value is second.value
    assert str(first.value).startswith(str(path)) and first.value.remedy.endswith(".")
    assert str(pickle.loads(pickle.dumps(first.value))) == str(first.value)
    return first.value


def textured(count: int) -> Frames:
    """Frames that fill packets: noise over a moving gradient."""
    rng = np.random.default_rng(0)
    ramp = np.arange(64)[None, None, :, None] + np.arange(count)[:, None, None, None]
    return ((ramp * 3 % 200) + rng.integers(0, 40, (count, 48, 64, 3))).astype(np.uint8)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    missing = refusal(tmp_path / "absent.mp4")
    assert isinstance(missing, MissingClipError) and "does not exist" in str(missing)
    assert isinstance(refusal(tmp_path), MissingClipError)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    path = regular(tmp_path / "clip.mp4", 25, 3)
    monkeypatch.setattr(type(path), "open", refuse)
    error = refusal(path)
    assert isinstance(error, MissingClipError) and "cannot be read (Permission denied)" in str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"This is not a video.\n" * 50),
        ("empty.mp4", b""),
        ("noise.mp4", bytes(range(256)) * 40),
        ("page.mp4", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        ("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nother.ts\n#EXT-X-ENDLIST\n"),
        ("list.mp4", b"ffconcat version 1.0\nfile other.mp4\n"),
        ("subtitles.mp4", b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n2\n00:00:01,000 --> 00:00:02,000\nyou\n"),
    ],
)
def test_what_is_not_a_video(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert isinstance(refusal(tmp_path / name), NotAVideoError)
    with pytest.raises(NotAVideoError):
        probe(tmp_path / name)
    with pytest.raises(NotAVideoError):
        read_audio(tmp_path / name)


def test_a_still_picture_is_not_a_video(tmp_path: Path) -> None:
    path = make_file(tmp_path / "still.png", numbered(1), [0], Fraction(1, 25), codec="png", pix_fmt="rgb24")
    path.rename(tmp_path / "still.mp4")
    assert isinstance(refusal(tmp_path / "still.mp4"), NotAVideoError)


def sound_only(path: Path) -> Path:
    with av.open(path, "w") as out:
        audio: Any = out.add_stream("aac", rate=16_000, layout="mono")
        heard = av.AudioFrame.from_ndarray(clicks(16_000, 1, [0.5]), format="s16", layout="mono")
        heard.sample_rate = 16_000
        out.mux([*audio.encode(heard), *audio.encode(None)])
    return path


def test_sound_without_pictures(tmp_path: Path) -> None:
    error = refusal(sound_only(tmp_path / "speech.mp4"))
    assert isinstance(error, NoVideoError) and "no video stream" in str(error)


def with_codec_renamed(path: Path, codec: bytes) -> Path:
    """Write a clip with sound, and change the name that its index gives to one codec."""
    regular(path, 25, 25, Track(clicks(16_000, 1, [0.5]), 16_000))
    data = path.read_bytes()
    at = data.index(codec, data.index(b"stsd"))
    path.write_bytes(data[:at] + b"zzzz" + data[at + 4 :])
    return path


def test_pictures_in_an_unknown_codec(tmp_path: Path) -> None:
    path = with_codec_renamed(tmp_path / "clip.mov", b"avc1")
    error = refusal(path)
    assert isinstance(error, DamagedError) and "codec that is not known" in str(error)
    with pytest.raises(DamagedError):
        probe(path)


def test_sound_in_an_unknown_codec_leaves_the_pictures(tmp_path: Path) -> None:
    path = with_codec_renamed(tmp_path / "clip.mov", b"sowt")
    with MediaClip(path) as clip:
        assert len(clip.frames) == 25
        with pytest.raises(NoAudioError, match="no audio stream that can be read"):
            _ = clip.audio
    with pytest.raises(NoAudioError):
        read_audio(path)


def test_a_video_stream_without_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(path, "w") as out:
        video: Any = out.add_stream("mpeg4", rate=25)
        video.width, video.height = 64, 48
        audio: Any = out.add_stream("aac", rate=16_000, layout="mono")
        heard = av.AudioFrame.from_ndarray(clicks(16_000, 1, [0.5]), format="s16", layout="mono")
        heard.sample_rate = 16_000
        out.mux([*audio.encode(heard), *audio.encode(None)])
    error = refusal(path)
    assert isinstance(error, NoVideoError) and "without a single frame" in str(error)
    with pytest.raises(NoVideoError):
        probe(path)


def test_nothing_remains_of_a_single_frame_that_is_left_out(tmp_path: Path) -> None:
    error = refusal(regular(tmp_path / "clip.mp4", 25, 1), MediaPolicy(skip_first_frame=True))
    assert isinstance(error, NoVideoError) and "skip_first_frame" in str(error)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("name", ["clip.mp4", "index_first.mp4", "fragments.mp4", "clip.avi", "clip.mkv", "clip.mov"])
def test_a_file_that_breaks_off_is_never_read_short(tmp_path: Path, name: str, share: float) -> None:
    movflags = {"index_first.mp4": "+faststart", "fragments.mp4": "+frag_keyframe+empty_moov"}.get(name)
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = tmp_path / name
    with av.open(path, "w", options={"movflags": movflags} if movflags else {}) as out:
        video: Any = out.add_stream(codec, rate=25, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for pixels in textured(60):
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(video.encode(None))
    with MediaClip(path) as clip:
        assert len(clip.frames) == 60
    assert not lacks_bytes(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    error = refusal(path)
    assert isinstance(error, DamagedError)
    if name in ("index_first.mp4", "clip.avi") and share > 0.5:
        assert "of 60 frames" in str(error)


def test_a_file_cut_anywhere_is_refused_with_a_typed_error(tmp_path: Path) -> None:
    whole = regular(tmp_path / "whole.mkv", 25, 12).read_bytes()
    for length in range(1, len(whole), max(1, len(whole) // 60)):
        path = tmp_path / "cut.mkv"
        path.write_bytes(whole[:length])
        assert isinstance(refusal(path), (DamagedError, NotAVideoError, NoVideoError))


@pytest.mark.parametrize("container", ["mp4", "avi", "mkv"])
def test_a_file_cut_between_two_packets_is_noticed(tmp_path: Path, container: str) -> None:
    codec = "mpeg4" if container == "avi" else "libx264"
    path = tmp_path / f"clip.{container}"
    with av.open(path, "w", options={"movflags": "+faststart"} if container == "mp4" else {}) as out:
        video: Any = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for pixels in textured(40):
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(video.encode(None))
    with av.open(path) as container_:
        ends = sorted(p.pos + p.size for p in container_.demux(video=0) if p.size and p.pos is not None)
    path.write_bytes(path.read_bytes()[: ends[20]])
    assert isinstance(refusal(path), DamagedError)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_packets_that_were_overwritten(tmp_path: Path, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec}")
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = tmp_path / "clip.mp4"
    with av.open(path, "w") as out:
        video: Any = out.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for pixels in textured(40):
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(video.encode(None))
    with av.open(path) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]
    data = bytearray(path.read_bytes())
    at, size = places[20]
    data[at : at + size] = b"\x5a" * size
    path.write_bytes(data)
    error = refusal(path)
    assert isinstance(error, DamagedError) and "of 40 frames" in str(error)


def test_sound_that_was_overwritten(tmp_path: Path) -> None:
    path = regular(tmp_path / "clip.mp4", 25, 25, Track(clicks(16_000, 1, [0.5]), 16_000, codec="aac"))
    with av.open(path) as container:
        at, size = [(p.pos or 0, p.size) for p in container.demux(audio=0) if p.size][8]
    data = bytearray(path.read_bytes())
    data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    assert isinstance(refusal(path), DamagedError)


def test_timestamps_that_leap_are_damage(tmp_path: Path) -> None:
    path = make_file(tmp_path / "clip.mkv", numbered(3), [0, 40, 90_000_000], lasts=40)
    error = refusal(path)
    assert isinstance(error, DamagedError) and "in time" in str(error)
