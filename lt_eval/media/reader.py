"""Demuxes and decodes one file with PyAV, and tells a file that breaks off from one that ends."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, cast

import av
import av.error
from av.video.reformatter import VideoReformatter

from lt_eval.errors import DamagedError, NoVideoError
from lt_eval.media.picture import is_sideways, orient
from lt_eval.media.probe import (
    ClipInfo,
    audio_stream,
    clip_info,
    display_matrix,
    lacks_bytes,
    timeline_of,
    video_stream,
)
from lt_eval.media.sound import Soundtrack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

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
        timeline: of the frames used.
    """

    def __init__(self, path: Path, container: InputContainer, *, skip_first: bool = False) -> None:
        self.sound = Soundtrack()
        self._path, self._container, self._skip_first = path, container, skip_first
        self._video = video_stream(container, path)
        self.timeline = timeline_of(self._video)
        self._video.thread_type = "AUTO"
        # Without it libavcodec patches damaged pictures up, or leaves them out, and says nothing.
        self._video.codec_context.options = {"err_detect": "explode"}
        self._audio = audio_stream(container)
        self._reformatter = VideoReformatter()
        self._size, self._rotation_deg = (0, 0), 0
        self._packets = self._seen = 0

    def __iter__(self) -> Iterator[Shot]:
        """Yield every frame in order of presentation.

        Raises:
            DamagedError: a packet does not decode, the stream ends early, or time makes no sense.
            NoVideoError: there is no frame.
        """
        try:
            for packet in self._demux():
                for frame in packet.decode():
                    if isinstance(frame, av.AudioFrame):
                        self.sound.add(frame)
                    elif isinstance(frame, av.VideoFrame):
                        yield from self._shot(frame)
        except av.error.FFmpegError as error:
            raise self._damaged(f"does not decode ({error.strerror})") from error
        self._check_complete()

    def info(self) -> ClipInfo:
        """The facts of the file, counted."""
        start_s = self.sound.start_s
        return clip_info(
            self._path, self._video, self._audio, self.timeline, self._size, self._rotation_deg, audio_start_s=start_s
        )

    def _demux(self) -> Iterator[Packet[Stream]]:
        """Yield the packets of picture and sound, counting pictures; what is left is read even if nobody asks."""
        for packet in self._container.demux([self._video] if self._audio is None else [self._video, self._audio]):
            if packet.is_corrupt:
                raise self._damaged("breaks off inside a packet")
            self._packets += packet.size > 0 and packet.stream_index == self._video.index
            yield packet

    def _shot(self, frame: av.VideoFrame) -> Iterator[Shot]:
        if frame.is_corrupt:
            raise self._damaged("does not decode")
        self._seen += 1
        if self._skip_first and self._seen == 1:
            return
        matrix = display_matrix(frame)
        if not self.timeline.count:
            size = (frame.width, frame.height)
            self._size = (size[1], size[0]) if is_sideways(matrix) else size
            self._rotation_deg = round(frame.rotation)
        yield self._timed(frame.pts, frame.duration, lambda: orient(self._rgb(frame), matrix))

    def _timed(self, pts: int | None, duration: int | None, rgb: Callable[[], Frames]) -> Shot:
        start_s = self.timeline.add(pts, duration)
        if self.timeline.longest_gap_s > LONGEST_GAP_S:
            raise self._damaged(f"jumps by {float(self.timeline.longest_gap_s):.0f} s in time")
        return Shot(start_s, rgb)

    def _rgb(self, frame: av.VideoFrame) -> Frames:
        return cast("Frames", self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())

    def _check_complete(self) -> None:
        # An mp4's index counts exactly; the length of other containers, and of fragments, is known in bytes only.
        indexed = self._video.frames and self._container.format.name.startswith("mov")
        listed = len(self._video.index_entries) if indexed else 0
        if self._packets < listed or (not listed and lacks_bytes(self._path)):
            raise self._damaged("breaks off")
        if not self._seen:
            raise NoVideoError(self._path, "holds a video stream without a single frame", "Make the clip again.")
        if not self.timeline.count:
            remedy = "The policy leaves out the first frame, and nothing remains. Set skip_first_frame to false."
            raise NoVideoError(self._path, "holds a single frame", remedy)

    def _damaged(self, finding: str) -> DamagedError:
        promised = f" of {self._video.frames}" if self._video.frames else ""
        return DamagedError(self._path, f"{finding} after {self._seen}{promised} frames", REMEDY)
