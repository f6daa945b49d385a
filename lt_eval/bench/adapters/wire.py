"""Conditions to files, and bytes as they arrive to frames: raw pixels, a container (fragmented mp4 ...), or parts.

Every frame is handed on as soon as its bytes are there: readers return what has come instead of waiting for more, and
the decoder holds nothing back.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lt_eval.bench.host import FAILED
from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames

_PART_BYTES = 64 * 2**20


class Source(Protocol):
    """Bytes as they arrive."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, as soon as there are any; b"" at the end."""
        ...


class Pieces:
    """A Source of an iterator of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held = pieces, b""

    def read(self, size: int = -1, /) -> bytes:
        """Return what is there, at most `size` bytes."""
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held = piece
        wanted = len(self._held) if size < 0 else size
        found, self._held = self._held[:wanted], self._held[wanted:]
        return found


def png_of(portrait: Frames) -> bytes:
    """Return uint8 RGB [H, W, 3] as a PNG file."""
    import cv2

    _, data = cv2.imencode(".png", np.ascontiguousarray(portrait[:, :, ::-1]))
    return data.tobytes()


def wav_of(audio: Audio, sample_rate: int) -> bytes:
    """Return float32 [T], -1..1, as a WAV file of 16-bit samples."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.rint(np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    return held.getvalue()


def raw_frames(source: Source, width: int, height: int) -> Iterator[Frames]:
    """Yield [1, height, width, 3] of rgb24 bytes.

    Raises:
        UnscorableError: the bytes end within a frame.
    """
    size = width * height * 3
    held = bytearray()
    while piece := source.read(size - len(held)):
        held += piece
        if len(held) == size:
            yield np.frombuffer(bytes(held), np.uint8).reshape(1, height, width, 3)
            held.clear()
    if held:
        raise UnscorableError(
            FAILED,
            f"raw video ended after {len(held)} of the {size} bytes of a frame of {width}x{height} rgb24. Are width "
            "and height those of the model?",
        )


def container_frames(source: Source) -> Iterator[Frames]:
    """Yield [1, H, W, 3] of any container that can be read forwards: fragmented mp4, mpegts, matroska ...

    Raises:
        UnscorableError: it is none, or it breaks off.
    """
    import av
    import av.error

    # without these libav reads seconds ahead to guess what the header says; "nobuffer" would lose what it has read
    options = {"probesize": "2048", "analyzeduration": "0"}
    try:
        with av.open(source, "r", options=options, buffer_size=4096) as container:
            if not container.streams.video:
                raise UnscorableError(FAILED, "what arrived holds no video stream.")
            stream = container.streams.video[0]
            stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
            for frame in container.decode(stream):
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)[None]
    except av.error.FFmpegError as cause:
        raise UnscorableError(FAILED, f"what arrived is no video that can be decoded ({cause}).") from cause


def part_frames(source: Source, boundary: str) -> Iterator[Frames]:
    """Yield [1, H, W, 3] of the pictures of a multipart stream (multipart/x-mixed-replace, "motion JPEG").

    Raises:
        UnscorableError: a part is no picture.
    """
    import cv2

    for part in _parts(source, b"--" + boundary.strip('"').removeprefix("--").encode()):
        picture = cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR) if part else None
        if picture is None:
            raise UnscorableError(FAILED, f"a part of {len(part)} bytes is no picture; JPEG or PNG are needed.")
        yield np.ascontiguousarray(picture[None, :, :, ::-1]).astype(np.uint8, copy=False)


def _parts(source: Source, mark: bytes) -> Iterator[bytes]:
    """Yield the bodies; a part that states its length is complete with its last byte, others with the next mark."""
    held = _Held(source)
    held.until(mark)
    while held.until(b"\n").strip() != b"--" and not held.ended:
        head = b""
        while line := held.until(b"\n").strip():
            head += line.lower() + b"\n"
        _, told, length = head.partition(b"content-length:")
        if told:
            yield held.exactly(int(length.split()[0]))
            held.until(mark)
        else:
            yield held.until(mark).removesuffix(b"\n").removesuffix(b"\r")


class _Held:
    """Bytes that have come and are not used yet."""

    def __init__(self, source: Source) -> None:
        self._source, self._bytes = source, b""
        self.ended = False

    def _more(self) -> bool:
        piece = self._source.read(65536)
        self._bytes += piece
        self.ended = not piece
        if len(self._bytes) > _PART_BYTES:
            raise UnscorableError(FAILED, f"a part is longer than {_PART_BYTES // 2**20} MiB; is the boundary right?")
        return not self.ended

    def until(self, mark: bytes) -> bytes:
        """Take everything up to a mark, and the mark; at the end of the stream everything."""
        seen = 0
        while (at := self._bytes.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self._bytes)
            if not self._more():
                found, self._bytes = self._bytes, b""
                return found
        found, self._bytes = self._bytes[:at], self._bytes[at + len(mark) :]
        return found

    def exactly(self, size: int) -> bytes:
        """Take so many bytes, fewer at the end of the stream."""
        while len(self._bytes) < size and self._more():
            pass
        found, self._bytes = self._bytes[:size], self._bytes[size:]
        return found


FrameReader = Callable[[Source], Iterator["Frames"]]


def reader_of(format_name: str, width: int, height: int) -> FrameReader:
    """Return what turns a Source of "rgb24" or of a container into frames.

    Raises:
        ValueError: raw pixels without a size.
    """
    if format_name != "rgb24":
        return container_frames
    if width < 1 or height < 1:
        raise ValueError(f"rgb24 needs width and height above 0; they are {width} and {height}")
    return lambda source: raw_frames(source, width, height)
