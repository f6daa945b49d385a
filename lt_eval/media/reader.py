"""Demuxes and decodes one file with PyAV, and tells a file that breaks off from one that ends."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, cast

import av
import av.error
from av.video.reformatter import VideoReformatter

from lt_eval.errors import DamagedError, NoVideoError
from lt_eval.media.picture import is_sideways, orient
from lt_eval.media.probe import ClipInfo, display_matrix, video_stream
from lt_eval.media.sound import Soundtrack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from av.container import InputContainer

    from lt_eval.records import Frames

LONGEST_GAP_S = 600
"""A hole between two timestamps beyond this is taken for damage, not for a still picture."""

REMEDY = "It was probably cut off or changed while it was written or copied. Make or copy it again."


class Shot(NamedTuple):
    """One source frame: its start in seconds after the first one, and how to get its pixels.

    `rgb` returns uint8 RGB [H, W, 3], upright. It is called only for frames that are shown.
    """

    start_s: Fraction
    rgb: Callable[[], Frames]


class Reader:
    """One pass over an open container. Iterate once; the other members are there afterwards.

    Args:
        path: for messages.
        container: as `media.probe.opened` gives it.
        skip_first: leave out frame 0; time then starts at frame 1.

    Attributes:
        sound: the soundtrack, filled on the way.
        origin_s: container time of the first frame used.
    """

    def __init__(self, path: Path, container: InputContainer, *, skip_first: bool = False) -> None:
        self.sound = Soundtrack()
        self.origin_s = Fraction(0)
        self._path, self._container, self._skip_first = path, container, skip_first
        self._video = video_stream(container, path)
        self._video.thread_type = "AUTO"
        # Without it libavcodec patches damaged pictures up, or leaves them out, and says nothing.
        self._video.codec_context.options = {"err_detect": "explode"}
        self._audio = next(iter(container.streams.audio), None)
        self._reformatter = VideoReformatter()
        self._size, self._rotation_deg = (0, 0), 0
        self._packets = self._decoded = self._used = 0
        self._latest_s = self._length_s = Fraction(0)
        self._shortest_s, self._longest_s = Fraction(LONGEST_GAP_S), Fraction(0)

    def __iter__(self) -> Iterator[Shot]:
        """Yield every frame in order of presentation.

        Raises:
            DamagedError: a packet does not decode, the stream ends early, or time makes no sense.
            NoVideoError: there is no frame.
        """
        streams = [self._video] if self._audio is None else [self._video, self._audio]
        try:
            for packet in self._container.demux(streams):
                if packet.is_corrupt:
                    raise self._damaged("breaks off inside a packet")
                self._packets += packet.size > 0 and packet.stream.type == "video"
                for frame in packet.decode():
                    if isinstance(frame, av.AudioFrame):
                        self.sound.add(frame)
                    elif isinstance(frame, av.VideoFrame):
                        yield from self._shot(frame)
        except av.error.FFmpegError as error:
            raise self._damaged(f"does not decode ({error.strerror})") from error
        self._check_complete()

    @property
    def duration_s(self) -> Fraction:
        """From the start of the first used frame to the end of the last."""
        return self._latest_s + self._length_s - self.origin_s

    def info(self) -> ClipInfo:
        """The facts of the file, counted."""
        context, audio = self._video.codec_context, self._audio
        width, height = self._size
        spread = self._longest_s - self._shortest_s
        # Two ticks: what rounding to the time base can do to equal frames.
        tick = self._video.time_base or Fraction(0)
        varies = self._used > 2 and spread > max(2 * tick, self.duration_s / self._used / 10)
        start_s = self.sound.start_s
        return ClipInfo(
            path=self._path,
            duration_s=float(self.duration_s),
            frames=self._used,
            fps=float(self._used / self.duration_s),
            variable_rate=varies,
            width=width,
            height=height,
            rotation_deg=self._rotation_deg,
            codec=context.name,
            has_audio=audio is not None,
            audio_rate_hz=audio.sample_rate if audio is not None else 0,
            audio_start_s=0.0 if start_s is None else float(start_s - self.origin_s),
        )

    def _shot(self, frame: av.VideoFrame) -> Iterator[Shot]:
        if frame.is_corrupt:
            raise self._damaged("does not decode")
        self._decoded += 1
        if self._skip_first and self._decoded == 1:
            return
        start_s = self._start_of(frame)
        matrix = display_matrix(frame)
        if not self._used:
            self.origin_s = start_s
            size = (frame.width, frame.height)
            self._size = (size[1], size[0]) if is_sideways(matrix) else size
            self._rotation_deg = round(frame.rotation)
        self._used += 1
        yield Shot(start_s - self.origin_s, lambda: orient(self._rgb(frame), matrix))

    def _start_of(self, frame: av.VideoFrame) -> Fraction:
        """Return the frame's container time, never before the last one's, and learn frame lengths on the way."""
        guess_s = 1 / (self._video.guessed_rate or self._video.average_rate or Fraction(25))
        tick_s = frame.time_base or Fraction(0)
        start_s = self._latest_s + (self._length_s or guess_s) if frame.pts is None else frame.pts * tick_s
        if self._used:
            start_s = max(start_s, self._latest_s)
            gap_s = start_s - self._latest_s
            if gap_s > LONGEST_GAP_S:
                raise self._damaged(f"jumps by {float(gap_s):.0f} s in time")
            self._shortest_s, self._longest_s = min(self._shortest_s, gap_s), max(self._longest_s, gap_s)
        length_s = (frame.duration or 0) * tick_s
        self._length_s = length_s or (start_s - self._latest_s if self._used else Fraction(0)) or guess_s
        self._latest_s = start_s
        return start_s

    def _rgb(self, frame: av.VideoFrame) -> Frames:
        return cast("Frames", self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())

    def _check_complete(self) -> None:
        if self._packets < self._promised_packets():
            raise self._damaged("breaks off")
        if not self._decoded:
            raise NoVideoError(self._path, "holds a video stream without a single frame", "Make the clip again.")
        if not self._used:
            remedy = "The policy leaves out the first frame, and nothing remains. Set skip_first_frame to false."
            raise NoVideoError(self._path, "holds a single frame", remedy)

    def _promised_packets(self) -> int:
        """Return how many video packets the index lists; 0 where the container has no index of its own."""
        return len(self._video.index_entries) if self._container.format.name.startswith("mov") else 0

    def _damaged(self, finding: str) -> DamagedError:
        promised = self._video.frames
        of = f" of {promised}" if promised else ""
        return DamagedError(self._path, f"{finding} after {self._decoded}{of} frames", REMEDY)
