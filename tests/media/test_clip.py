from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lt_eval.errors import DamagedError, StorageFullError
from lt_eval.media import clip as module
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import Decoding
from lt_eval.records import MediaPolicy
from tests.media.making import Track, clicks, regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lt_eval.interfaces import Clip
    from lt_eval.records import Frames

ASKED = ["frames", "audio", "info", "fps"]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded, one entry a pass."""
    seen: list[str] = []

    class Counted(Decoding):
        def __iter__(self) -> Iterator[Frames]:
            seen.append(self.path.name)
            return super().__iter__()

    monkeypatch.setattr(module, "Decoding", Counted)
    return seen


@pytest.fixture
def sounding(tmp_path: Path) -> Path:
    return regular(tmp_path / "clip.mov", 25, 30, Track(clicks(16_000, 1, [0.5]), 16_000))


@pytest.mark.parametrize("first", ASKED)
def test_whoever_asks_first_the_file_is_decoded_once(sounding: Path, passes: list[str], first: str) -> None:
    with MediaClip(sounding, MediaPolicy(fps=None)) as clip:
        for name in [first, *ASKED, *ASKED]:
            getattr(clip, name)
        assert passes == ["clip.mov"]
        assert clip.frames is clip.frames and clip.audio is clip.audio


def test_threads_share_one_decode(sounding: Path, passes: list[str]) -> None:
    with MediaClip(sounding) as clip:
        threads = [threading.Thread(target=lambda: clip.frames) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert passes == ["clip.mov"]


def test_a_failure_is_remembered_too(tmp_path: Path, passes: list[str]) -> None:
    path = regular(tmp_path / "clip.mp4", 25, 30)
    path.write_bytes(path.read_bytes()[:-200])
    with MediaClip(path) as clip:
        for name in ASKED[:3]:
            with pytest.raises(DamagedError):
                getattr(clip, name)
    assert passes == ["clip.mp4"]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path, passes: list[str]) -> None:
    with MediaClip(tmp_path / "absent.mp4") as clip:
        assert clip.fps == 25
    assert passes == []


def test_it_is_what_metrics_call_a_clip(sounding: Path) -> None:
    with MediaClip(sounding) as handle:
        clip: Clip = handle
        assert clip.path == sounding
        assert not clip.frames.flags.writeable and not clip.audio.flags.writeable
        assert handle.sha256 == hashlib.sha256(sounding.read_bytes()).hexdigest()


def test_frames_beyond_the_limit_are_a_map_of_a_nameless_file(
    sounding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = tmp_path / "spill"
    spill.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spill))
    with MediaClip(sounding) as small, MediaClip(sounding, memory_limit_bytes=100_000) as large:
        assert not isinstance(small.frames, np.memmap)
        assert isinstance(large.frames, np.memmap) and not large.frames.flags.writeable
        assert np.array_equal(small.frames, large.frames) and np.array_equal(small.audio, large.audio)
        kept = large.frames
    assert list(spill.iterdir()) == []
    assert kept.shape == (30, 48, 64, 3) and kept[29].any()


def test_a_full_temporary_folder_is_told(sounding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with (
        MediaClip(sounding, memory_limit_bytes=1) as clip,
        pytest.raises(StorageFullError, match=r"clip\.mov.*TMPDIR"),
    ):
        _ = clip.frames


def test_after_close_it_may_be_asked_again(sounding: Path, passes: list[str]) -> None:
    clip = MediaClip(sounding)
    frames = clip.frames
    clip.close()
    assert np.array_equal(clip.frames, frames)
    assert len(passes) == 2


MEASURE = """
import resource, sys
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import Decoding
MediaClip(sys.argv[1]).frames  # libraries loaded, decoder warmed up
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with MediaClip(sys.argv[2], memory_limit_bytes=16 * 2**20) as clip:
    frames = clip.frames.shape[0]
print(frames, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from Linux")
def test_memory_is_bounded_however_long_the_clip(tmp_path: Path) -> None:
    import av
    from av.video.frame import VideoFrame

    for name, count in (("short.mp4", 20), ("long.mp4", 1500)):
        with av.open(tmp_path / name, "w") as out:
            video = out.add_stream("mpeg4", rate=25)
            video.width, video.height = 320, 240
            for index in range(count):
                pixels = np.full((240, 320, 3), index % 250, np.uint8)
                out.mux(video.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(video.encode(None))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "short.mp4"), str(tmp_path / "long.mp4")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(told[0]) == 1500  # 330 MiB of pixels
    assert int(told[1]) < 80
