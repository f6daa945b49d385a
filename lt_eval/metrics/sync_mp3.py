"""Sound through MP3 and back, as upstream's intermediate AVI takes it: for the reference mode of Sync.

Frames go through encoder and decoder as they come, so that 32 kB a second of sound at 16 kHz are held, whatever the
file's own rate and channels.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.codec.context import Flags2

from lt_eval.errors import NoAudioError
from lt_eval.media.probe import audio_stream, opened
from lt_eval.media.sound import Soundtrack
from lt_eval.records import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from lt_eval.records import Audio

    Sound = tuple[NDArray[np.int16], int]  # samples at 16 kHz, and the rate that the MP3 had

MP3_DELAY = 1105
"""Samples at MP3's own rate by which libmp3lame is late, of which an AVI says nothing."""


class Mp3RoundTrip:
    """Encodes frames at the rate and with the channels of the first, and decodes them to 16 kHz mono.

    Args:
        first: decides rate, channels and sample format; it is not yet taken.
        origin_s: time of the frames that becomes time 0; what is earlier is cut, a late start is silence.
    """

    def __init__(self, first: av.AudioFrame, origin_s: Fraction) -> None:
        self._kind = _kind(first)
        self._base = first.time_base or Fraction(1, first.sample_rate)
        self._shift = round(origin_s / self._base)
        self._alike: av.AudioResampler | None = None
        self._in_time = _graph(first, self._base)
        self._encoder: Any = _encoder(first)
        self._cutter = av.AudioResampler(
            self._encoder.format.name, self._encoder.layout.name, self._encoder.rate, self._encoder.frame_size
        )
        self._decoder: Any = av.CodecContext.create("mp3float", "r")
        # The last packet says how much of it is padding, which an AVI does not pass on.
        self._decoder.flags2 |= Flags2.skip_manual
        self._to_16_khz = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
        self._pieces = [np.zeros(0, np.int16)]

    def add(self, frame: av.AudioFrame) -> None:
        """Take a decoded frame. Holes and overlaps of a tenth of a second and more are filled and cut."""
        for alike in self._as_first(frame):
            if alike.pts is not None:
                alike.pts -= self._shift
            self._in_time.push(alike)
            self._pull()

    def finish(self) -> Sound:
        """Return int16 [T] at 16 kHz, and the rate of the MP3."""
        self._in_time.push(None)
        self._pull()
        self._encode(self._cutter.resample(None))
        self._decode(self._encoder.encode(None))
        self._decode([None])
        self._keep(self._to_16_khz.resample(None))
        return np.concatenate(self._pieces), self._encoder.sample_rate

    def _as_first(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """Return a frame in the format of the first; where rate or channels change on the way, as ffmpeg does."""
        if _kind(frame) == self._kind:
            return [frame]
        if self._alike is None:
            name, layout, rate = self._kind
            self._alike = av.AudioResampler(format=name, layout=layout, rate=rate)
        start_s, silent = _start_s(frame), frame.pts is None
        frame.pts = None
        made = self._alike.resample(frame)
        for piece in made:
            piece.pts, piece.time_base = None if silent else round(start_s / self._base), self._base
            start_s += Fraction(piece.samples, piece.sample_rate)
        return made

    def _pull(self) -> None:
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                self._encode(self._cutter.resample(cast("av.AudioFrame", self._in_time.pull())))

    def _encode(self, frames: Iterable[av.AudioFrame]) -> None:
        for frame in frames:
            self._decode(self._encoder.encode(frame))

    def _decode(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            for heard in self._decoder.decode(packet):
                heard.pts = None
                self._keep(self._to_16_khz.resample(heard))

    def _keep(self, frames: Iterable[av.AudioFrame]) -> None:
        self._pieces += [frame.to_ndarray()[0] for frame in frames]


def mp3_round_trip(frames: Iterable[av.AudioFrame], origin_s: Fraction | None = None) -> Sound:
    """Return sound after MP3 at its own rate, as 16 kHz mono, and the rate of the MP3.

    Args:
        frames: as decoded.
        origin_s: time of the frames that becomes time 0; None for the start of the first.
    """
    trip: Mp3RoundTrip | None = None
    for frame in frames:
        trip = trip or Mp3RoundTrip(frame, _start_s(frame) if origin_s is None else origin_s)
        trip.add(frame)
    return (np.zeros(0, np.int16), SAMPLE_RATE_HZ) if trip is None else trip.finish()


def mp3_of_file(path: Path) -> Sound:
    """Return the sound of a whole file after MP3; sample 0 is the file's first.

    Raises:
        NoAudioError: there is none.
        MediaError: as `media.probe.opened`.
    """
    with opened(path) as container:
        stream = audio_stream(container)
        samples, rate_hz = mp3_round_trip(iter(()) if stream is None else _decoded(container, stream))
    if not len(samples):
        raise NoAudioError(path, "holds no audio stream or no sample in it", "Give a file with sound.")
    return samples, rate_hz


class Mp3Sound(Soundtrack):
    """A soundtrack that goes through MP3 as it comes; frames wait only until the first picture tells where time begins.

    Args:
        origin_s: returns the container time of the first picture, None while there is none. With decord, which gives
            pictures when all sound has been read, every frame waits.
    """

    def __init__(self, origin_s: Callable[[], Fraction | None]) -> None:
        super().__init__()
        self._origin_s = origin_s
        self._first_s: Fraction | None = None
        self._waiting: list[av.AudioFrame] = []
        self._trip: Mp3RoundTrip | None = None
        self.rate_hz = SAMPLE_RATE_HZ

    @property
    def start_s(self) -> Fraction | None:
        """Container time of the first sample; None while there is none."""
        return self._first_s

    def add(self, frame: av.AudioFrame) -> None:
        """Take a decoded frame."""
        if self._first_s is None:
            self._first_s = _start_s(frame)
        self._waiting.append(frame)
        origin_s = self._origin_s()
        if origin_s is not None:
            self._pass_on(origin_s)

    def finish(self, origin_s: Fraction) -> Audio:
        """Return float32 [T] at 16 kHz, of which `pcm16` makes the very samples; sample 0 at time `origin_s`."""
        self._pass_on(origin_s)
        if self._trip is None:
            return np.zeros(0, np.float32)
        samples, self.rate_hz = self._trip.finish()
        return (samples / np.float32(32768)).astype(np.float32)

    def _pass_on(self, origin_s: Fraction) -> None:
        for frame in self._waiting:
            self._trip = self._trip or Mp3RoundTrip(frame, origin_s)
            self._trip.add(frame)
        self._waiting = []


def _decoded(container: Any, stream: Any) -> Iterator[av.AudioFrame]:
    yield from container.decode(stream)


def _kind(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _start_s(frame: av.AudioFrame) -> Fraction:
    return Fraction(0) if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def _graph(first: av.AudioFrame, base: Fraction) -> av.filter.Graph:
    """Return what ffmpeg's `-async 1` puts before an encoder: sound from time 0 on, without holes."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=first.sample_rate, format=first.format.name, layout=first.layout.name, time_base=base
    )
    graph.link_nodes(source, graph.add("aresample", "async=1:first_pts=0"), graph.add("abuffersink")).configure()
    return graph


def _encoder(first: av.AudioFrame) -> Any:
    """Return an encoder opened with what ffmpeg chooses for sound like this."""
    encoder: Any = av.CodecContext.create("libmp3lame", "w")
    rates = av.Codec("libmp3lame", "w").audio_rates or [first.sample_rate]
    encoder.rate = min(rates, key=lambda rate: abs(rate - first.sample_rate))
    encoder.layout = "mono" if len(first.layout.channels) == 1 else "stereo"
    encoder.format = {"u8": "s16p", "s16": "s16p", "s32": "s32p"}.get(first.format.name.removesuffix("p"), "fltp")
    encoder.time_base = Fraction(1, encoder.rate)
    encoder.open()
    return encoder
