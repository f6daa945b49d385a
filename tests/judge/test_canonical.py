"""Canonical clips: how many frames, which, how large, and always the same bytes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.errors import MediaError
from lt_eval.judge.canonical import ClipRules, canonical_clip
from lt_eval.media.encode import encode
from lt_eval.media.probe import probe
from tests.clips import tone

RULES = ClipRules(side_px=64)


def ramp(path: Path, count: int, fps: float, width: int = 64, height: int = 64) -> Path:
    """A clip whose brightness is its time: 6 grey levels a frame, from 20 on."""
    frames = np.broadcast_to(
        (20 + 6 * (np.arange(count) % 36))[:, None, None, None].astype(np.uint8), (count, height, width, 3)
    )
    return encode(path, np.ascontiguousarray(frames), fps, tone(0, count / fps), crf=0)


def shown(path: Path) -> list[tuple[float, float]]:
    """Time and brightness of each frame."""
    with av.open(str(path)) as container:
        return [(float(f.time or 0), float(f.to_ndarray(format="rgb24").mean())) for f in container.decode(video=0)]


@given(st.fractions(Fraction(1, 100), 600), st.integers(1, 20_000))
def test_no_server_that_takes_two_frames_a_second_drops_one(duration_s: Fraction, source_frames: int) -> None:
    count = ClipRules().count(duration_s, source_frames)
    assert 2 <= count <= 32
    if count > 4:
        rate = count / duration_s
        assert rate <= 2
        # what vLLM since 0.27 keeps of a clip of `count` frames: 2 a second, 4 at least, all of them at most
        assert min(max(int(count / rate * 2), 4), 768, count) == count


@given(st.fractions(2, 600))
def test_the_papers_mode_takes_32_frames_of_any_clip_that_has_them(duration_s: Fraction) -> None:
    assert ClipRules("paper").count(duration_s, int(duration_s * 25)) == 32


@given(st.integers(16, 4000), st.integers(16, 4000))
def test_sides_tile_the_grid_and_the_longer_one_is_always_the_same(width: int, height: int) -> None:
    across, down = ClipRules().size(width, height)
    assert across % 32 == down % 32 == 0
    assert max(across, down) == 768 and min(across, down) >= 32
    shorter = min(width, height) * 768 / max(width, height)
    assert min(across, down) == 32 or abs(min(across, down) - shorter) <= 16


def test_784_pixels_become_768_on_a_grid_of_32_and_stay_784_on_one_of_28() -> None:
    assert ClipRules().size(512, 512) == (768, 768)
    assert ClipRules(grid_px=28).size(512, 512) == (784, 784)


@pytest.mark.parametrize("mode", ["portable", "paper"])
def test_each_frame_is_the_picture_shown_at_its_own_time(tmp_path: Path, mode: str) -> None:
    source = ramp(tmp_path / "ramp.mp4", 36, 4.5)  # 8 s
    clip = canonical_clip(source, ClipRules(mode, side_px=64), tmp_path / "clips")  # type: ignore[arg-type]
    frames = shown(clip.path)
    assert len(frames) == clip.frames == (16 if mode == "portable" else 32)
    assert clip.fps == pytest.approx(clip.frames / 8)
    for number, (time_s, grey) in enumerate(frames):
        assert time_s == pytest.approx(number * 8 / clip.frames, abs=1e-3)
        assert (grey - 20) / 6 == pytest.approx(int(time_s * 4.5 + 1e-6), abs=0.49)


def test_a_clip_has_no_sound_and_covers_the_same_time(tmp_path: Path) -> None:
    clip = canonical_clip(ramp(tmp_path / "a.mp4", 50, 25.0), RULES, tmp_path / "clips")
    info = probe(clip.path)
    assert not info.has_audio
    assert info.duration_s == pytest.approx(2.0, abs=0.01)


def test_the_same_video_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    source = ramp(tmp_path / "a.mp4", 50, 25.0)
    first = canonical_clip(source, RULES, tmp_path / "one")
    again = canonical_clip(source, RULES, tmp_path / "two")
    assert first.sha256 == again.sha256 and first.path != again.path
    assert canonical_clip(ramp(tmp_path / "b.mp4", 51, 25.0), RULES, tmp_path / "one").sha256 != first.sha256
    assert canonical_clip(source, ClipRules(side_px=96), tmp_path / "one").sha256 != first.sha256


def test_a_clip_is_made_once_and_a_damaged_one_again(tmp_path: Path) -> None:
    source = ramp(tmp_path / "a.mp4", 50, 25.0)
    first = canonical_clip(source, RULES, tmp_path)
    made = first.path.stat().st_mtime_ns
    assert canonical_clip(source, RULES, tmp_path) == first
    assert first.path.stat().st_mtime_ns == made
    first.path.write_bytes(b"torn")
    assert canonical_clip(source, RULES, tmp_path) == first
    assert first.path.stat().st_size > 100


def test_a_single_frame_is_shown_twice(tmp_path: Path) -> None:
    clip = canonical_clip(ramp(tmp_path / "a.mp4", 1, 25.0), RULES, tmp_path)
    assert len(shown(clip.path)) == clip.frames == 2


def test_tokens_are_grid_cells_of_pairs_of_frames(tmp_path: Path) -> None:
    clip = canonical_clip(ramp(tmp_path / "a.mp4", 125, 25.0, 128, 64), RULES, tmp_path)
    assert (clip.frames, clip.width, clip.height) == (10, 64, 32)
    assert clip.video_tokens(32) == 5 * 2 * 1


def test_a_broken_video_is_an_error_of_that_video(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(ramp(tmp_path / "a.mp4", 50, 25.0).read_bytes()[:3000])
    with pytest.raises(MediaError):
        canonical_clip(broken, RULES, tmp_path)
    with pytest.raises(MediaError):
        canonical_clip(tmp_path / "none.mp4", RULES, tmp_path)


def test_real_clips_of_any_shape_and_rate(real_media: Path, tmp_path: Path) -> None:
    wide = canonical_clip(real_media / "video" / "sync_example_976x528.avi", ClipRules(), tmp_path)
    assert (wide.frames, wide.width, wide.height) == (10, 768, 416)
    assert wide.fps == pytest.approx(10 / 5.32, rel=0.01)
