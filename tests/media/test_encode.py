from __future__ import annotations

import contextlib
import errno
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from lt_eval.errors import StorageFullError, StoreError, UsageError
from lt_eval.media import encode as module
from lt_eval.media.clip import MediaClip
from lt_eval.media.encode import VideoWriter, encode
from lt_eval.records import MediaPolicy
from tests.media.making import heard_at, needs_ffmpeg

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames

NATIVE = MediaPolicy(fps=None)
POSITIONS_S = (0.2, 1.0, 1.77)


def click_and_flash(fps: float, rate_hz: int) -> tuple[Frames, Audio, list[int]]:
    """Two seconds of black silence with a white frame, and a click at its start, at each position."""
    frames = np.zeros((round(2 * fps), 32, 48, 3), np.uint8)
    audio = np.zeros(2 * rate_hz, np.float32)
    flashes = [round(position * fps) for position in POSITIONS_S]
    for flash in flashes:
        frames[flash] = 255
        audio[round(flash / fps * rate_hz)] = 1
    return frames, audio, flashes


@pytest.mark.parametrize("fps", [25, 30, 22.13])
@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 44_100])
def test_click_and_flash_stay_within_a_millisecond(tmp_path: Path, fps: float, rate_hz: int) -> None:
    frames, audio, flashes = click_and_flash(fps, rate_hz)
    path = encode(tmp_path / "clip.mp4", frames, fps, audio, sample_rate_hz=rate_hz)
    with MediaClip(path, NATIVE) as clip:
        assert clip.fps == pytest.approx(fps, rel=1e-6)
        assert np.flatnonzero(clip.frames.mean(axis=(1, 2, 3)) > 128).tolist() == flashes
        for flash in flashes:
            seen_s = flash / clip.fps
            assert abs(heard_at(clip.audio, seen_s) - seen_s) < 1e-3
        assert len(clip.audio) == 2 * 16_000


@needs_ffmpeg
@pytest.mark.parametrize(("fps", "rate_hz"), [(25, 16_000), (30, 44_100)])
def test_ffmpeg_sees_and_hears_them_at_the_same_time(tmp_path: Path, fps: int, rate_hz: int) -> None:
    frames, audio, flashes = click_and_flash(fps, rate_hz)
    path = encode(tmp_path / "clip.mp4", frames, fps, audio, sample_rate_hz=rate_hz)
    command = ["ffmpeg", "-v", "error", "-i", str(path)]
    grey = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], capture_output=True, check=True).stdout
    pcm = subprocess.run([*command, "-f", "f32le", "-ac", "1", "-"], capture_output=True, check=True).stdout
    pictures = np.frombuffer(grey, np.uint8).reshape(-1, 32 * 48)
    assert np.flatnonzero(pictures.mean(axis=1) > 128).tolist() == flashes
    for flash in flashes:
        assert abs(heard_at(np.frombuffer(pcm, np.float32), flash / fps, rate_hz) - flash / fps) < 1e-3


def test_colours_survive(tmp_path: Path) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [120, 60, 200]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (6, 32, 32, 3)).copy()
    with MediaClip(encode(tmp_path / "clip.mp4", frames, 25, crf=4), NATIVE) as clip:
        assert np.abs(clip.frames.astype(int) - frames).max() <= 4


def test_same_input_same_bytes_whatever_the_chunks(tmp_path: Path) -> None:
    frames, audio, _ = click_and_flash(25, 16_000)
    one = encode(tmp_path / "one.mp4", frames, 25, audio).read_bytes()
    again = encode(tmp_path / "again.mp4", frames, 25, audio).read_bytes()
    assert one == again
    encode(tmp_path / "chunks.mp4", iter(np.split(frames, 10)), 25, audio)
    with MediaClip(tmp_path / "one.mp4") as a, MediaClip(tmp_path / "chunks.mp4") as b:
        assert np.array_equal(a.frames, b.frames)
        assert np.array_equal(a.audio, b.audio)


def test_a_live_source_may_send_sound_first_and_in_any_pieces(tmp_path: Path) -> None:
    frames, audio, flashes = click_and_flash(25, 16_000)
    with VideoWriter(tmp_path / "live.mp4", 25) as writer:
        writer.write_audio(audio[:333])
        writer.write(frames[:1])
        writer.write_audio(audio[333:1000])
        writer.write(frames[1:1])
        writer.write(frames[1:])
        writer.write_audio(audio[1000:])
        assert not (tmp_path / "live.mp4").exists()
    with MediaClip(tmp_path / "live.mp4") as clip:
        assert len(clip.frames) == 50
        assert abs(heard_at(clip.audio, flashes[1] / 25) - flashes[1] / 25) < 1e-3


def test_without_audio_there_is_no_audio_track(tmp_path: Path) -> None:
    with av.open(encode(tmp_path / "clip.mp4", np.zeros((3, 16, 16, 3), np.uint8), 25)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_failure_leaves_nothing_and_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError, match="generator"), VideoWriter(path, 25) as writer:
        writer.write(np.zeros((4, 16, 16, 3), np.uint8))
        raise RuntimeError("the generator failed")
    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


class FullDisk:
    """A file on a disk with room for `room` bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        """Write what there is room for."""
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1_000, 60_000])
def test_a_full_disk_is_told_with_the_path_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args: FullDisk(real(self, *args), room))
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(StorageFullError, match=r"clip\.mp4.*Make room"):
        encode(tmp_path / "clip.mp4", noise, 25, np.zeros(16_000, np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_swallowed_failure_does_not_finish_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args: FullDisk(real(self, *args), 0))
    frames = np.zeros((60, 16, 16, 3), np.uint8)
    with pytest.raises(StorageFullError), VideoWriter(tmp_path / "clip.mp4", 25, sample_rate_hz=None) as writer:
        for _ in range(3):
            with contextlib.suppress(StorageFullError):
                writer.write(frames)
        monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        encode(tmp_path / "file" / "clip.mp4", np.zeros((1, 16, 16, 3), np.uint8), 25)


@pytest.mark.parametrize(
    ("frames", "fps", "audio", "rate_hz", "finding"),
    [
        (np.zeros((1, 15, 16, 3), np.uint8), 25, None, 16_000, "even"),
        (np.zeros((1, 16, 16, 3), np.float32), 25, None, 16_000, "uint8"),
        (np.zeros((16, 16, 3), np.uint8), 25, None, 16_000, "T, H, W, 3"),
        (np.zeros((0, 16, 16, 3), np.uint8), 25, None, 16_000, "no frame"),
        (np.zeros((1, 16, 16, 3), np.uint8), 0, None, 16_000, "rate above 0"),
        (np.zeros((1, 16, 16, 3), np.uint8), 25, np.zeros(8, np.float32), 12_345, "12345"),
        (np.zeros((1, 16, 16, 3), np.uint8), 25, np.full(8, np.nan, np.float32), 16_000, "finite"),
        (np.zeros((1, 16, 16, 3), np.uint8), 25, np.zeros((2, 8), np.float32), 16_000, "mono"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    tmp_path: Path, frames: Any, fps: float, audio: Any, rate_hz: int, finding: str
) -> None:
    with pytest.raises(UsageError, match=finding):
        encode(tmp_path / "clip.mp4", frames, fps, audio, sample_rate_hz=rate_hz)
    assert list(tmp_path.iterdir()) == []


def test_one_file_has_one_size_and_a_declared_track(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16x16 to 32x16"), VideoWriter(tmp_path / "clip.mp4", 25) as writer:
        writer.write(np.zeros((1, 16, 16, 3), np.uint8))
        writer.write(np.zeros((1, 16, 32, 3), np.uint8))
    with (
        pytest.raises(UsageError, match="sample_rate_hz"),
        VideoWriter(tmp_path / "clip.mp4", 25, sample_rate_hz=None) as writer,
    ):
        writer.write_audio(np.zeros(10, np.float32))


def test_every_rate_that_is_offered_works(tmp_path: Path) -> None:
    frame = np.zeros((5, 16, 16, 3), np.uint8)
    for rate_hz in module.AAC_RATES_HZ:
        encode(tmp_path / "clip.mp4", frame, 25, np.zeros(rate_hz // 5, np.float32), sample_rate_hz=rate_hz)
        with MediaClip(tmp_path / "clip.mp4") as clip:
            assert len(clip.audio) == pytest.approx(3200, abs=1)
