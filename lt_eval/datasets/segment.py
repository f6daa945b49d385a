"""A few seconds out of a long raw video, without decoding what lies before: picture and sound in time with each other.

Times count from the first frame of the video, whatever the container says of its own start: the same download gives the
same cut as mp4 and as mkv. The segment begins with the first frame at or after `start_s`, and its sound is cut at that
very frame: an arbitrary start would otherwise put the sound up to one source frame ahead of the picture. Which source
frame an output frame shows is the rule of `media.resample`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from lt_eval.errors import DamagedError, NoAudioError, SilentAudioError, UnscorableError
from lt_eval.media.picture import orient
from lt_eval.media.probe import audio_stream, display_matrix, opened, video_stream
from lt_eval.media.resample import Schedule, exact_rate
from lt_eval.media.sound import Soundtrack
from lt_eval.records import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from lt_eval.records import Audio, Frames

PREROLL_S = 1
"""Sound is decoded from this much earlier: lossy codecs need the packets before to get the first samples right."""

BACK_OFF_S = (1, 10, 60)
"""How far before the wanted time to seek, in turn, where an index leads beyond it; at last the whole file is read."""

LONGEST_GAP_S = Fraction(1, 2)
"""A longer hole between frames is a still picture or lost data, and no talking face."""

MISSING_END_S = 0.1
"""Sound may end this much before the picture, as encoders leave it; the rest is silence."""

SILENCE_RMS = 1e-4
"""-80 dB of full scale: below hearing beside any speech."""

REMEDY = "Fetch the video again."

TICK_S = Fraction(1, 1000)
"""Matroska rounds times to this."""


class Segment:
    """One pass over `count` frames at `fps`, from `start_s`. Iterate it once; the rest is there from frame 0 on.

    Attributes:
        origin_s: time of the first frame, at or shortly after `start_s`.
        shape: width and height in pixels, upright.
    """

    def __init__(self, path: Path, start_s: float, count: int, fps: float) -> None:
        self.path, self.origin_s, self.shape = path, Fraction(0), (0, 0)
        self._start_s, self._count, self._fps = Fraction(start_s), count, exact_rate(fps)

    def __iter__(self) -> Iterator[Frames]:
        """Yield uint8 RGB [H, W, 3], upright.

        Raises:
            MediaError: the file cannot be opened, or does not decode here.
            UnscorableError: "too_short", the video ends before the segment does.
        """
        with opened(self.path) as container, _damage_named(self.path):
            given = 0
            for picture in itertools.islice(self._shown(container), self._count):
                given += 1
                self.shape = picture.shape[1], picture.shape[0]
                yield picture
            if given < self._count:
                have_s = float(given / self._fps)
                raise UnscorableError(
                    "too_short",
                    f"{self.path.name} ends {have_s:.2f} s after {float(self._start_s):.2f} s, and "
                    f"{float(self._count / self._fps):.2f} s are needed",
                )

    def _shown(self, container: InputContainer) -> Iterator[Frames]:
        schedule, reformatter = Schedule(self._fps), VideoReformatter()
        held: av.VideoFrame | None = None
        latest_s = end_s = Fraction(0)
        for time_s, frame in self._frames(container):
            if held is None:
                self.origin_s = time_s
            elif time_s - self.origin_s - latest_s > LONGEST_GAP_S:
                hole = f"has no frame between {float(latest_s + self.origin_s):.2f} and {float(time_s):.2f} s"
                raise DamagedError(self.path, hole, REMEDY)
            repeats = schedule.advance(time_s - self.origin_s)
            if held is not None and repeats:
                yield from itertools.repeat(_rgb(held, reformatter), repeats)
            length_s = (frame.duration or 0) * (frame.time_base or Fraction(0)) or 1 / self._fps
            held, latest_s, end_s = frame, time_s - self.origin_s, time_s - self.origin_s + length_s
        if held is not None:
            repeats = schedule.finish(end_s)
            if repeats:
                yield from itertools.repeat(_rgb(held, reformatter), repeats)

    def _frames(self, container: InputContainer) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Frames at or after the start with their times, from the nearest entry point before it."""
        stream = video_stream(container, self.path)
        stream.thread_type = "AUTO"
        for seconds, frame in _decoded_from(container, stream, self._start_s, _base_s(container, self.path)):
            if seconds >= self._start_s - TICK_S and isinstance(frame, av.VideoFrame):
                if frame.is_corrupt:
                    raise DamagedError(self.path, f"does not decode at {float(seconds):.2f} s", REMEDY)
                yield seconds, frame


def sound(path: Path, origin_s: Fraction, seconds: float) -> Audio:
    """Return float32 [seconds * 16000] mono at 16 kHz, sample 0 at `origin_s`.

    Raises:
        NoAudioError: no audio stream, or it ends before the segment does.
        SilentAudioError: nothing can be heard in the segment.
        MediaError: the file cannot be opened, or does not decode here.
    """
    wanted = round(seconds * SAMPLE_RATE_HZ)
    remedy = "Fetch the video with its sound."
    with opened(path) as container, _damage_named(path):
        stream = audio_stream(container)
        if stream is None:
            raise NoAudioError(path, "holds no audio stream", remedy)
        track, end_s = Soundtrack(), origin_s + Fraction(seconds) + TICK_S
        base_s = _base_s(container, path)
        for seconds_in, frame in _decoded_from(container, stream, max(Fraction(0), origin_s - PREROLL_S), base_s):
            if seconds_in > end_s:
                break
            if isinstance(frame, av.AudioFrame):
                track.add(frame)
        samples = track.finish(origin_s + base_s)[:wanted]
    if wanted - len(samples) > MISSING_END_S * SAMPLE_RATE_HZ:
        raise NoAudioError(path, f"has no sound after {float(origin_s) + len(samples) / SAMPLE_RATE_HZ:.2f} s", remedy)
    if float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) < SILENCE_RMS:
        raise SilentAudioError(path, f"is silent from {float(origin_s):.2f} s on for {seconds:.2f} s", remedy)
    return np.pad(samples, (0, wanted - len(samples)))


def _decoded_from(
    container: InputContainer, stream: VideoStream | AudioStream, start_s: Fraction, base_s: Fraction
) -> Iterator[tuple[Fraction, av.VideoFrame | av.AudioFrame]]:
    """Decode from an entry point at or before `start_s`; times count from `base_s`."""
    if start_s > 0:
        for back_s in BACK_OFF_S:
            target_s = start_s + base_s - back_s
            if target_s <= base_s or stream.time_base is None:
                break
            container.seek(int(target_s / stream.time_base), stream=stream, backward=True)
            frames = _timed(container, stream, base_s)
            first = next(frames, None)
            if first is not None and first[0] <= start_s:
                yield first
                yield from frames
                return
        container.seek(0)
    yield from _timed(container, stream, base_s)


def _timed(
    container: InputContainer, stream: VideoStream | AudioStream, base_s: Fraction
) -> Iterator[tuple[Fraction, av.VideoFrame | av.AudioFrame]]:
    for packet in container.demux(stream):
        for frame in packet.decode():
            # frames without a time follow a broken reference after a seek; the next stated one sets things right
            if isinstance(frame, av.VideoFrame | av.AudioFrame) and frame.pts is not None and frame.time_base:
                yield frame.pts * frame.time_base - base_s, frame


def _base_s(container: InputContainer, path: Path) -> Fraction:
    """Container time of the first frame."""
    stream = video_stream(container, path)
    if stream.start_time is None or stream.time_base is None:
        return Fraction(container.start_time or 0, av.time_base)
    return stream.start_time * stream.time_base


def _rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> Frames:
    pixels = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return orient(pixels.astype(np.uint8, copy=False), display_matrix(frame))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except av.error.FFmpegError as cause:
        raise DamagedError(path, f"does not decode here ({cause.strerror})", REMEDY) from cause
