"""Sound and pictures on their way: audio from a pipe as it comes, a clip into a pipe as it is made.

What is written is Matroska: H.264 without delay (x264, `zerolatency`, baseline-like, one thread) and 16-bit PCM, in
clusters of one chunk, so that a player shows a chunk when it has been written. Colour as in `encode`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, cast

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from lt_eval.errors import NoAudioError, NotAVideoError, UsageError
from lt_eval.media.encode import add_video, yuv_picture
from lt_eval.media.resample import exact_rate
from lt_eval.media.spectra import pcm16

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from lt_eval.records import Audio, Frames

READ_BYTES = 4096
"""Of a pipe at a time: an eighth of a second of 16-bit sound at 16 kHz."""


class Sink(Protocol):
    """Where bytes go: standard output, a socket's file."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""
        ...

    def flush(self) -> object:
        """Let it go."""
        ...


class Source(Protocol):
    """Where bytes come from."""

    def read1(self, size: int, /) -> bytes:
        """Return what there is, at most `size` bytes; wait only where there is nothing; b"" at the end."""
        ...


class _Readable:
    """What PyAV reads from: no `seek`, for a pipe has none."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        return self._source.read1(size)


class _Writable:
    """What PyAV writes to."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(data)
        self._sink.flush()
        return len(data)


def audio_from(source: Source, rate_hz: int, name: str = "-") -> Iterator[Audio]:
    """Yield float32 [T] mono, -1..1, at `rate_hz` of a sound file (wav, mp3, ogg ...) while it arrives.

    Args:
        source: of the file's bytes.
        rate_hz: of the samples that come out.
        name: of the source in a message.

    Raises:
        NotAVideoError: the bytes are no media file.
        NoAudioError: it has no audio stream.
    """
    try:
        options = {"probesize": str(READ_BYTES)}
        container = av.open(_Readable(source), "r", buffer_size=READ_BYTES, options=options)
    except (av.error.FFmpegError, OSError) as cause:
        raise NotAVideoError(name, "is empty, or no sound that can be decoded", "Pipe a wav, mp3 or ogg.") from cause
    with container:
        if not container.streams.audio:
            raise NoAudioError(name, "holds no audio stream", "Pipe a file with sound.")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
        for frame in container.decode(audio=0):
            frame.pts = None
            # Not libswresample's downmix, which is louder by 3 dB than the mean, as everywhere in the project.
            resampler = resampler if resampler.layout.name == frame.layout.name else _resampler(frame, rate_hz)
            yield from (_mono(piece) for piece in resampler.resample(frame))
        yield from (_mono(piece) for piece in resampler.resample(None))


def _resampler(frame: av.AudioFrame, rate_hz: int) -> av.AudioResampler:
    return av.AudioResampler(format="fltp", layout=frame.layout, rate=rate_hz)


def _mono(frame: av.AudioFrame) -> Audio:
    samples: Audio = np.clip(frame.to_ndarray().mean(axis=0, dtype=np.float32), -1, 1)
    return samples


class LiveWriter:
    """Writes a clip into a pipe while it is made; use as a context manager.

    Args:
        sink: of the bytes.
        fps: constant frame rate.
        sample_rate_hz: of the sound.
        crf: x264's quality, 0 (lossless) to 51.

    Raises:
        BrokenPipeError: whoever watched has gone.
    """

    def __init__(self, sink: Sink, fps: float, *, sample_rate_hz: int, crf: int = 20) -> None:
        self._sink, self._rate, self._sample_rate_hz, self._crf = sink, exact_rate(fps), sample_rate_hz, crf
        self._container: OutputContainer | None = None
        self._video: VideoStream | None = None
        self._audio: AudioStream | None = None
        self._reformatter = VideoReformatter()
        self._frames = self._samples = 0

    def write(self, frames: Frames, samples: Audio) -> None:
        """Append a chunk: uint8 RGB [T, H, W, 3], T > 0, and the sound of it, float [S], which may be empty."""
        if self._container is None:
            self._open(frames.shape[2], frames.shape[1])
        container, video = cast("OutputContainer", self._container), cast("VideoStream", self._video)
        # In turns: the muxer holds a packet back until the other track has one that is later.
        for pixels, sound in zip(frames, np.array_split(samples, len(frames)), strict=True):
            self._write_sound(sound)
            container.mux(video.encode(self._picture(pixels)))

    def _write_sound(self, samples: Audio) -> None:
        if not len(samples):
            return
        sound = av.AudioFrame.from_ndarray(pcm16(samples.astype(np.float32))[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts = self._sample_rate_hz, self._samples
        sound.time_base = Fraction(1, self._sample_rate_hz)
        self._samples += len(samples)
        cast("OutputContainer", self._container).mux(cast("AudioStream", self._audio).encode(sound))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is None:
            return
        if kind is None:
            for stream in (self._video, self._audio):
                self._container.mux(cast("VideoStream", stream).encode(None))
            self._container.close()
            return
        with contextlib.suppress(OSError, ValueError, av.error.FFmpegError):
            self._container.close()

    def _open(self, width: int, height: int) -> None:
        if width % 2 or height % 2:
            raise UsageError(
                f"frames are {width}x{height}, and H.264 with 4:2:0 colour needs even sides. Crop or resize them first"
            )
        # A cluster is written when the next one begins: short ones leave early.
        options = {"live": "1", "cluster_time_limit": "1", "flush_packets": "1", "fflags": "+bitexact"}
        self._container = av.open(_Writable(self._sink), "w", format="matroska", options=options)
        speed = {"crf": str(self._crf), "preset": "ultrafast", "tune": "zerolatency", "threads": "1", "mbtree": "0"}
        self._video = add_video(self._container, self._rate, width, height, speed)
        self._audio = self._container.add_stream("pcm_s16le", rate=self._sample_rate_hz, layout="mono")

    def _picture(self, pixels: Frames) -> av.VideoFrame:
        picture = yuv_picture(self._reformatter, pixels)
        picture.pts, picture.time_base = self._frames, 1 / self._rate
        self._frames += 1
        return picture
