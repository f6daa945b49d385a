"""Which source frame each output frame shows: by timestamp, never by counting.

The rule, the same as `ffmpeg -vf fps=N:round=near`: time 0 is the first source frame. Every source frame snaps to its
nearest output instant k / fps (a tie goes to the later one) and is held until the next one's. Where two snap to the
same instant the later is shown. Hence output frame k shows the last source frame that starts before
k / fps + half an output interval. The clip lasts as long as before, to within half an output interval: 81 frames at
16 fps are 5.0625 s and become 127 frames at 25 fps.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def exact_rate(fps: float) -> Fraction:
    """Return the fraction that a frame rate written as a float means: 29.97002997 is 30000/1001."""
    return Fraction(fps).limit_denominator(100_000)


class Schedule:
    """Counts, as source frames come, how often the frame before fills the output.

    Args:
        fps: output frames a second; None shows every source frame once.
    """

    def __init__(self, fps: Fraction | None) -> None:
        self._fps = fps
        self._started = False
        self._filled = 0

    def advance(self, time_s: Fraction) -> int:
        """A source frame starts at `time_s` (the first at 0, never earlier than the one before).

        Returns:
            How many output frames show the source frame before it.
        """
        repeats = self._fill_to(time_s) if self._started else 0
        self._started = True
        return repeats

    def finish(self, end_s: Fraction) -> int:
        """The last source frame ends at `end_s`; return how many output frames show it. A clip has at least one."""
        repeats = self._fill_to(end_s)
        if self._filled == 0:
            self._filled = repeats = 1
        return repeats

    def _fill_to(self, time_s: Fraction) -> int:
        slot = self._filled + 1 if self._fps is None else math.floor(time_s * self._fps + Fraction(1, 2))
        repeats = max(0, slot - self._filled)
        self._filled += repeats
        return repeats


def source_of_each(times_s: Sequence[Fraction], end_s: Fraction, fps: Fraction | None) -> list[int]:
    """Return the index of the source frame that each output frame shows.

    Args:
        times_s: start of every source frame, ascending, the first 0.
        end_s: end of the last one.
        fps: output frames a second, or None for every source frame once.
    """
    schedule = Schedule(fps)
    shown: list[int] = []
    for index, time_s in enumerate(times_s):
        shown += [index - 1] * schedule.advance(time_s)
    return shown + [len(times_s) - 1] * schedule.finish(end_s)
