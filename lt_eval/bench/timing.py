"""One turn of a generator on the wall clock: an iterator goes in, arrival times come out.

A chunk counts when its pixels are on the host as an array, so no CUDA call is needed and every generator is timed
alike. The clock starts with the conditions in memory, before the session is opened, and never stops: whatever a
generator does between two chunks, on threads of its own included, is in its time. Chunks are therefore taken as fast
as they come; encoding them is for afterwards.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import MayNotStream

if TYPE_CHECKING:
    import threading

    from lt_eval.interfaces import Generator
    from lt_eval.records import Audio, Frames

Pace = Literal["instant", "realtime"]
"""Audio as fast as the generator takes it, or as fast as somebody speaks it."""

AUDIO_CHUNK_S = 0.04
"""Length of the pieces in which a generator is handed its audio, unless told otherwise: a video frame's at 25 fps."""

INVALID = "generation_invalid"
"""Reason of a failure: the chunks are not what `Session.speak` must yield."""

_MOST_VIDEO = 4.0
_MORE_VIDEO_S = 10.0


class Arrival(NamedTuple):
    """One chunk: when its pixels were on the host, how many frames it holds, how much audio had been taken by then."""

    at_s: float
    frames: int
    heard_s: float


class Pull(NamedTuple):
    """One chunk of audio: when the generator had it, and how much it has had with it."""

    at_s: float
    heard_s: float


@dataclass(frozen=True)
class Timeline:
    """One turn. All times are seconds since its conditions were in memory.

    Attributes:
        arrivals: of every chunk that holds frames, in order; never empty.
        pulls: of every chunk of audio.
        opened_s: when the session was open (portrait encoded, caches made); part of every later time.
        ended_s: when the iterator was exhausted: what a generator does after its last frame is not in its throughput.
        audio_s: length of the audio it was given.
        fps: frames a second of the video it makes.
        size: height and width of the frames.
        pace: how the audio came.
        streams: False where all frames came at once, or the generator says that they do.
    """

    arrivals: tuple[Arrival, ...]
    pulls: tuple[Pull, ...]
    opened_s: float
    ended_s: float
    audio_s: float
    fps: float
    size: tuple[int, int]
    pace: Pace = "instant"
    streams: bool = True

    @property
    def frames(self) -> int:
        """How many frames came."""
        return sum(arrival.frames for arrival in self.arrivals)


class Feed:
    """The audio of a turn as a generator is given it: an iterable that notes when each chunk was taken.

    Args:
        audio: float32 [T] mono.
        sample_rate: in Hz.
        chunk_s: seconds of a chunk; None is all at once.
        pace: "realtime" holds each chunk back until somebody speaking since `start` would have said it.
        stop: when set, the audio ends early, so that a paced session can be shut down.
    """

    def __init__(
        self,
        audio: Audio,
        sample_rate: int,
        chunk_s: float | None = None,
        pace: Pace = "instant",
        stop: threading.Event | None = None,
    ) -> None:
        if chunk_s is not None and not chunk_s > 0:
            raise ValueError(f"audio chunks of {chunk_s} s: they must be longer than 0.")
        self._audio, self._rate, self._pace, self._stop = audio, sample_rate, pace, stop
        self._step = len(audio) if chunk_s is None else max(1, round(chunk_s * sample_rate))
        self._start = time.perf_counter()
        self.heard_s = 0.0
        self.pulls: list[Pull] = []

    def start(self, at: float) -> None:
        """Say when the clock started, on `time.perf_counter`."""
        self._start = at

    def __iter__(self) -> Iterator[Audio]:
        for begin in range(0, len(self._audio), max(1, self._step)):
            chunk = self._audio[begin : begin + self._step]
            until_s = (begin + len(chunk)) / self._rate
            if self._pace == "realtime" and not self._wait(until_s):
                return
            self.heard_s = until_s
            self.pulls.append(Pull(time.perf_counter() - self._start, until_s))
            yield chunk

    def _wait(self, until_s: float) -> bool:
        left = self._start + until_s - time.perf_counter()
        if self._stop is not None:
            return not self._stop.wait(max(0.0, left))
        if left > 0:
            time.sleep(left)
        return True


class ChunkCheck:
    """Holds what `Session.speak` promises against what came.

    Args:
        most_frames: more than these is a generator that never ends.
    """

    def __init__(self, most_frames: float = math.inf) -> None:
        self.size: tuple[int, int] | None = None
        self._most, self._frames = most_frames, 0

    def __call__(self, chunk: Any) -> Frames:
        """Return the chunk.

        Raises:
            UnscorableError: it is no array of frames, or of another size than those before it, or one too many.
        """
        shape, dtype = getattr(chunk, "shape", None), getattr(chunk, "dtype", None)
        good = isinstance(chunk, np.ndarray) and dtype == np.uint8 and chunk.ndim == 4 and chunk.shape[3] == 3
        if not good or 0 in chunk.shape[1:]:
            what = f"{dtype} {list(shape)}" if shape is not None else repr(chunk)[:80]
            raise UnscorableError(
                INVALID,
                f"the generator yielded {type(chunk).__name__} {what} as a chunk. It must be a numpy array on the "
                "host, uint8 RGB [T, H, W, 3].",
            )
        size = (chunk.shape[1], chunk.shape[2])
        if len(chunk) and self.size not in (None, size):
            raise UnscorableError(
                INVALID,
                f"the generator's frames change from {self.size} to {size} pixels (height, width) after "
                f"{self._frames} frames. All frames of a session must have one size.",
            )
        if len(chunk):
            self.size = size
        self._frames += len(chunk)
        if self._frames > self._most:
            raise UnscorableError(
                INVALID,
                f"the generator has yielded {self._frames} frames, more than {_MOST_VIDEO:g} times the length of its "
                f"audio and {_MORE_VIDEO_S:g} s, and goes on. speak() must end after its audio has.",
            )
        frames: Frames = chunk
        return frames


def listen(
    generator: Generator,
    portrait: Frames,
    audio: Audio,
    *,
    prompt: str = "",
    text: str = "",
    seed: int = 0,
    chunk_s: float | None = None,
    pace: Pace = "instant",
    keep: Callable[[Frames], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Timeline:
    """Let a generator speak one turn, and return when its chunks came.

    Args:
        generator: any.
        portrait: uint8 RGB [H, W, 3].
        audio: float32 [T] mono at the generator's rate.
        prompt: of the session.
        text: of the turn.
        seed: of the session.
        chunk_s: seconds of each chunk of audio; None gives all at once.
        pace: how the audio comes.
        keep: is given every chunk once it has counted; it must be quick, its time is the generator's. It must copy
            what it keeps, since a generator may use its buffer again.
        tell: is told what is happening, at least once a chunk: a sign of life.
        stop: when set, the turn ends early.

    Raises:
        UnscorableError: no frame, or chunks that are not what `Session.speak` must yield.
        Exception: whatever the generator raises.
    """
    audio_s = len(audio) / generator.sample_rate
    check = ChunkCheck((_MOST_VIDEO * audio_s + _MORE_VIDEO_S) * generator.fps)
    feed = Feed(audio, generator.sample_rate, chunk_s, pace, stop)
    arrivals: list[Arrival] = []
    begin = time.perf_counter()
    feed.start(begin)
    with generator.session(portrait, prompt=prompt, seed=seed) as session:
        opened_s = time.perf_counter() - begin
        tell("session open")
        for chunk in session.speak(feed, text=text):
            at_s, heard_s = time.perf_counter() - begin, feed.heard_s
            if len(check(chunk)):  # a chunk without pixels shows a viewer nothing: what it took counts for the next one
                arrivals.append(Arrival(at_s, len(chunk), heard_s))
                keep(chunk)
            tell("chunk")
            if stop is not None and stop.is_set():
                break
        ended_s = time.perf_counter() - begin
    if not arrivals or check.size is None:
        raise UnscorableError("no_frames", "the generator gave no frame.")
    streams = len(arrivals) > 1 and (generator.streams if isinstance(generator, MayNotStream) else True)
    return Timeline(
        tuple(arrivals), tuple(feed.pulls), opened_s, ended_s, audio_s, float(generator.fps), check.size, pace, streams
    )
