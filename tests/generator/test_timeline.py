from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.generator.timeline import Timeline, video_frames

RATES = st.sampled_from([16.0, 23.976, 25.0, 29.97, 30.0])


def test_the_first_block_makes_nine_frames_and_every_later_one_twelve() -> None:
    timeline = Timeline(25.0, 16_000)
    assert [len(timeline.frames(block)) for block in range(4)] == [9, 12, 12, 12]
    assert [timeline.frames(block).start for block in range(4)] == [0, 9, 21, 33]


@given(st.integers(0, 400), st.integers(1, 5))
def test_blocks_follow_each_other_without_a_gap(block: int, block_frames: int) -> None:
    timeline = Timeline(25.0, 16_000, block_frames)
    assert timeline.frames(block).stop == timeline.frames(block + 1).start == video_frames((block + 1) * block_frames)


@given(st.integers(1, 2_000), st.integers(0, 60), st.integers(1, 5))
def test_a_turn_takes_the_fewest_blocks_that_hold_its_frames(frames: int, first: int, block_frames: int) -> None:
    timeline = Timeline(25.0, 16_000, block_frames)
    count = timeline.blocks(frames, first)
    begin = timeline.frames(first).start
    assert timeline.frames(first + count - 1).stop - begin >= frames
    assert count == 1 or timeline.frames(first + count - 2).stop - begin < frames


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (1, 1), (319, 1), (959, 1), (960, 2), (640 * 50, 50), (640 * 50 + 319, 50)]
)
def test_a_turn_shows_the_rounded_number_of_frames_of_its_audio(samples: int, frames: int) -> None:
    assert Timeline(25.0, 16_000).shown(samples) == frames


@given(RATES, st.integers(1, 5_000))
def test_the_audio_of_a_whole_number_of_frames_shows_just_them(fps: float, frames: int) -> None:
    timeline = Timeline(fps, 16_000)
    assert timeline.shown(timeline.sample(frames)) == frames


def test_nothing_takes_no_block() -> None:
    assert Timeline(25.0, 16_000).blocks(0, 3) == 0
