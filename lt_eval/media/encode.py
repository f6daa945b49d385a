"""Frames and samples into an mp4 file that appears under its name only when it is complete.

H.264 (x264, yuv420p, constant frame rate) and AAC. The encoder runs on one thread and the container carries no date
or version, so that the same input gives the same bytes with the same libraries.

Colour is BT.601, limited range, and tagged so: readers that honour tags and readers that assume BT.601 for every file
(OpenCV does) then see the same colours.

AAC delays sound by one encoder frame; the container's edit list says so, and readers that honour it (PyAV, the ffmpeg
command line, browsers) hear sample n at time n / rate.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import av
import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from lt_eval.errors import StorageFullError, StoreError, UsageError
from lt_eval.media.resample import exact_rate
from lt_eval.records import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

    from lt_eval.records import Audio, Frames

AAC_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
"""The sample rates AAC knows."""

BT601_MATRIX = 6
"""AVCOL_SPC_SMPTE170M, as a stream is tagged; swscale numbers its matrices differently."""


def add_video(
    container: OutputContainer, rate: Fraction, width: int, height: int, options: Mapping[str, str]
) -> VideoStream:
    """Return a new H.264 stream of a container, marked with the colours that `yuv_picture` gives."""
    video = container.add_stream("libx264", rate=rate, options=dict(options))
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    context = video.codec_context
    context.time_base = 1 / rate
    context.color_range, context.colorspace = ColorRange.MPEG, BT601_MATRIX
    context.color_primaries, context.color_trc = ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M
    return video


def yuv_picture(reformatter: VideoReformatter, pixels: Frames) -> av.VideoFrame:
    """Return uint8 RGB [H, W, 3] as the yuv420p picture that every video of ours is encoded from."""
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return reformatter.reformat(
        rgb, format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG, threads=1
    )


class VideoWriter:
    """Writes one mp4 as its frames and samples come; use as a context manager.

    The file takes its name when the block ends, and does not appear at all when the block raises. Frames and samples
    may come in any order and in pieces of any length; both tracks start at time 0.

    Args:
        path: the file to make; its folder is made too. An older file of that name is replaced.
        fps: constant frame rate.
        sample_rate_hz: rate of the samples to come (one of `AAC_RATES_HZ`), or None for a file without an audio track.
        crf: x264's quality, 0 (lossless) to 51; 18 is visually close to the source.
        preset: x264's speed preset.

    Raises:
        UsageError: a rate, size or type that the format cannot hold; no frame at all.
        StorageFullError: the disk has no room.
        StoreError: the file cannot be written for another reason.
    """

    def __init__(
        self,
        path: Path | str,
        fps: float,
        *,
        sample_rate_hz: int | None = SAMPLE_RATE_HZ,
        crf: int = 18,
        preset: str = "medium",
    ) -> None:
        if not fps > 0:
            raise UsageError(f"{path}: {fps} frames a second cannot be written. Give a rate above 0")
        if sample_rate_hz is not None and sample_rate_hz not in AAC_RATES_HZ:
            rates = ", ".join(map(str, AAC_RATES_HZ))
            raise UsageError(f"{path}: AAC has no sample rate of {sample_rate_hz} Hz. Resample to one of {rates}")
        self.path = Path(path)
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._rate, self._crf, self._preset, self._sample_rate_hz = exact_rate(fps), crf, preset, sample_rate_hz
        self._waiting: deque[Audio] = deque()
        self._frames_written = self._samples_written = 0
        self._reformatter = VideoReformatter()
        self._failure: StoreError | None = None
        self._file: IO[bytes] | None = None
        self._container: OutputContainer | None = None
        self._video: VideoStream | None = None
        self._audio: AudioStream | None = None

    def write(self, frames: Frames) -> None:
        """Append uint8 RGB [T, H, W, 3]; every call with the same even H and W."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise UsageError(
                f"{self.path}: frames are {frames.dtype} {list(frames.shape)}. They must be uint8 RGB [T, H, W, 3]"
            )
        if len(frames) == 0:
            return
        try:
            if self._video is None:
                self._open(frames.shape[2], frames.shape[1])
            video = cast("VideoStream", self._video)
            if (video.width, video.height) != (frames.shape[2], frames.shape[1]):
                raise UsageError(
                    f"{self.path}: frames change from {video.width}x{video.height} to {frames.shape[2]}x"
                    f"{frames.shape[1]}. One file has one size: resize them first"
                )
            for pixels in frames:
                self._mux(video.encode(self._picture(pixels)))
            self._write_waiting()
        except (OSError, av.error.FFmpegError) as error:
            raise self._unwritable(error) from error

    def write_audio(self, samples: Audio) -> None:
        """Append float [T] mono at `sample_rate_hz`; beyond -1..1 it is clipped."""
        if self._sample_rate_hz is None:
            raise UsageError(f"{self.path}: opened without audio. Give VideoWriter a sample_rate_hz to write samples")
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise UsageError(f"{self.path}: samples {list(samples.shape)} must be finite and mono, [T]")
        if len(samples):
            self._waiting.append(np.clip(samples, -1, 1).astype(np.float32))
        try:
            if self._video is not None:
                self._write_waiting()
        except (OSError, av.error.FFmpegError) as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except (OSError, av.error.FFmpegError) as failure:
            raise self._unwritable(failure) from failure
        finally:
            self._discard()

    def _open(self, width: int, height: int) -> None:
        if width % 2 or height % 2:
            raise UsageError(
                f"{self.path}: frames are {width}x{height}, and H.264 with 4:2:0 colour needs even sides. "
                "Crop or resize them first"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A file of our own, because libav forgets write errors when it closes one of its own.
        self._file = self._partial.open("w+b")
        self._container = av.open(self._file, "w", format="mp4", options={"fflags": "+bitexact"})
        # x264's macroblock tree reads past small pictures: the same frames then give other bytes now and then.
        flags = {"crf": str(self._crf), "preset": self._preset, "threads": "1", "flags": "+bitexact", "mbtree": "0"}
        self._video = add_video(self._container, self._rate, width, height, flags)
        if self._sample_rate_hz is not None:
            audio = self._container.add_stream("aac", rate=self._sample_rate_hz, layout="mono")
            audio.codec_context.options = {"threads": "1", "flags": "+bitexact"}
            # AAC holds at most 6 bits a sample and channel; more is refused or warned about.
            audio.codec_context.bit_rate = min(128_000, 5 * self._sample_rate_hz)
            self._audio = audio

    def _picture(self, pixels: Frames) -> av.VideoFrame:
        picture = yuv_picture(self._reformatter, pixels)
        picture.pts, picture.time_base = self._frames_written, 1 / self._rate
        self._frames_written += 1
        return picture

    def _write_waiting(self) -> None:
        audio = cast("AudioStream", self._audio)
        while self._waiting:
            samples = self._waiting.popleft()
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate = cast("int", self._sample_rate_hz)
            frame.pts, frame.time_base = self._samples_written, Fraction(1, frame.sample_rate)
            self._samples_written += len(samples)
            self._mux(audio.encode(frame))

    def _mux(self, packets: Sequence[Packet[Stream]]) -> None:
        if self._failure is not None:
            raise self._failure
        cast("OutputContainer", self._container).mux(packets)

    def _finish(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._video is None or self._container is None or self._file is None:
            raise UsageError(f"{self.path}: no frame was written, and a video file needs at least one")
        self._mux(self._video.encode(None))
        if self._audio is not None and self._samples_written:
            self._mux(self._audio.encode(None))
        self._container.close()
        self._file.close()
        self._partial.replace(self.path)

    def _discard(self) -> None:
        """Let go of everything; after a failure closing may fail again, and the first failure is the one to tell."""
        for resource in (self._container, self._file):
            with contextlib.suppress(OSError, ValueError, av.error.FFmpegError):
                if resource is not None:
                    resource.close()
        self._container = self._file = None
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def _unwritable(self, error: Exception) -> StoreError:
        """Return the error to raise, and remember it: a file with a hole must not be finished."""
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            self._failure = StorageFullError(
                f"{self.path}: the disk is full, and nothing was left under that name. "
                f"Make room in {self.path.parent} or choose another folder, then run it again"
            )
        else:
            finding = f"{self.path}: cannot be written ({error})"
            self._failure = StoreError(f"{finding}. Check the folder and its permissions")
        return self._failure


def encode(
    path: Path | str,
    frames: Frames | Iterable[Frames],
    fps: float,
    audio: Audio | None = None,
    *,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    crf: int = 18,
    preset: str = "medium",
) -> Path:
    """Write one mp4 at once and return its path. `VideoWriter` says what is written and what is raised.

    Args:
        path: the file to make.
        frames: uint8 RGB [T, H, W, 3], or an iterable of such chunks.
        fps: constant frame rate.
        audio: float32 [T] mono, -1..1; None makes a file without an audio track.
        sample_rate_hz: rate of `audio`.
        crf: x264's quality, 0 (lossless) to 51.
        preset: x264's speed preset.
    """
    chunks = [frames] if isinstance(frames, np.ndarray) else frames
    rate_hz = None if audio is None else sample_rate_hz
    shown = heard = 0
    with VideoWriter(path, fps, sample_rate_hz=rate_hz, crf=crf, preset=preset) as writer:
        for chunk in chunks:
            writer.write(chunk)
            shown += len(chunk)
            if audio is not None:
                until = round(shown / fps * sample_rate_hz)
                writer.write_audio(audio[heard:until])
                heard = until
        if audio is not None:
            writer.write_audio(audio[heard:])
    return Path(path)
