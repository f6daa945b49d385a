"""When source frames start and end, as their timestamps say; exact fractions of a second."""

from __future__ import annotations

from fractions import Fraction


class Timeline:
    """Takes the frames of a stream in order of presentation; bounded memory.

    Args:
        tick_s: resolution of the timestamps.
        usual_s: length of a frame where neither a timestamp nor a length says otherwise.
    """

    def __init__(self, tick_s: Fraction, usual_s: Fraction) -> None:
        self.count = 0
        self.origin_s = Fraction(0)
        self.longest_gap_s = Fraction(0)
        self._tick_s, self._usual_s = tick_s, usual_s
        self._latest_s = self._length_s = Fraction(0)
        self._shortest_gap_s: Fraction | None = None

    def add(self, pts: int | None, duration: int | None) -> Fraction:
        """Append a frame and return its start in seconds after the first one.

        A frame without a timestamp follows the one before; one that would go back in time stands still.
        """
        if self.count == 0:
            self.origin_s = self._latest_s = Fraction(0) if pts is None else pts * self._tick_s
            self._length_s = (duration or 0) * self._tick_s or self._usual_s
        else:
            start_s = self._latest_s + self._length_s if pts is None else max(pts * self._tick_s, self._latest_s)
            gap_s = start_s - self._latest_s
            self.longest_gap_s = max(gap_s, self.longest_gap_s)
            self._shortest_gap_s = gap_s if self._shortest_gap_s is None else min(gap_s, self._shortest_gap_s)
            self._length_s = (duration or 0) * self._tick_s or gap_s or self._usual_s
            self._latest_s = start_s
        self.count += 1
        return self._latest_s - self.origin_s

    @property
    def duration_s(self) -> Fraction:
        """From the start of the first frame to the end of the last."""
        return self._latest_s + self._length_s - self.origin_s

    @property
    def fps(self) -> Fraction:
        """Average rate; 0 without a frame."""
        return self.count / self.duration_s if self.count else Fraction(0)

    @property
    def varies(self) -> bool:
        """Whether frames differ by more than a tenth of the average, and than rounding to ticks can explain."""
        if self._shortest_gap_s is None:
            return False
        return self.longest_gap_s - self._shortest_gap_s > max(self._tick_s, self.duration_s / self.count / 10)
