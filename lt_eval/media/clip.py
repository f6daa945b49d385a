"""A handle on one clip: decoded at most once, for everybody who asks, within a bound of memory."""

from __future__ import annotations

import itertools
import tempfile
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lt_eval.errors import MediaError, NoAudioError, StorageFullError
from lt_eval.media.decode import Decoding
from lt_eval.media.probe import ClipInfo, file_sha256
from lt_eval.records import MediaPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from lt_eval.records import Audio, Box, Frames

MEMORY_LIMIT_BYTES = 512 * 2**20


class _Decoded(NamedTuple):
    frames: Frames
    audio: Audio | NoAudioError
    info: ClipInfo


class MediaClip:
    """One video file at the run's policy. Implements `interfaces.Clip`; use as a context manager.

    Nothing is read until a property asks. The first of `frames`, `audio` and `info` (and `fps` under the native
    policy) decodes pictures and sound in one pass; all later ones, from any thread, get the same arrays, or the
    same error again.

    Args:
        path: the file.
        policy: rate, size and fit of the frames.
        content: the part of the upright picture to keep, as fractions; None keeps all.
        memory_limit_bytes: frames beyond this much lie in a nameless temporary file and `frames` is a read-only map
            of it. The operating system drops the file with the last reference, however the process ends.
    """

    def __init__(
        self,
        path: Path | str,
        policy: MediaPolicy | None = None,
        content: Box | None = None,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        self.path = Path(path)
        self.policy = policy or MediaPolicy()
        self.content = content
        self._limit = memory_limit_bytes
        self._lock = threading.Lock()
        self._outcome: _Decoded | MediaError | None = None

    @property
    def fps(self) -> float:
        """Frames a second of `frames`: the policy's, or the file's average under the native policy."""
        return self.policy.fps if self.policy.fps is not None else self.info.fps

    @property
    def frames(self) -> Frames:
        """uint8 RGB [T, H, W, 3], read-only, perhaps a map of a file; raises MediaError."""
        return self._decoded().frames

    @property
    def audio(self) -> Audio:
        """float32 [T] mono, -1..1, 16 kHz, sample 0 at frame 0, as long as the file's own sound, read-only.

        Raises:
            NoAudioError: no audio stream or no sample. Silence is sound: it is returned.
            MediaError: the file cannot be decoded.
        """
        audio = self._decoded().audio
        if isinstance(audio, NoAudioError):
            raise audio
        return audio

    @property
    def info(self) -> ClipInfo:
        """The facts of the file, with its frames counted; raises MediaError."""
        return self._decoded().info

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the file's bytes."""
        return file_sha256(self.path)

    def close(self) -> None:
        """Forget the frames. Arrays handed out stay valid; asking again decodes again."""
        self._outcome = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decoded(self) -> _Decoded:
        with self._lock:
            if self._outcome is None:
                try:
                    self._outcome = self._decode()
                except MediaError as error:
                    self._outcome = error
            if isinstance(self._outcome, MediaError):
                raise self._outcome.with_traceback(None)
            return self._outcome

    def _decode(self) -> _Decoded:
        decoding = Decoding(self.path, self.policy, self.content)
        frames = _gather(decoding, self._limit)
        audio: Audio | NoAudioError
        try:
            audio = decoding.audio
            audio.flags.writeable = False
        except NoAudioError as error:
            audio = error
        return _Decoded(frames, audio, decoding.info)


def _gather(decoding: Decoding, limit_bytes: int) -> Frames:
    """Return all frames as one read-only array, in a temporary file where they exceed the limit."""
    chunks: list[Frames] = []
    held_bytes = 0
    stream = iter(decoding)
    for chunk in stream:
        chunks.append(chunk)
        held_bytes += chunk.nbytes
        if held_bytes > limit_bytes:
            return _spill(chunks, stream, decoding.path)
    frames = np.empty((sum(map(len, chunks)), *chunks[0].shape[1:]), np.uint8)
    start = 0
    for chunk in _emptied(chunks):
        frames[start : start + len(chunk)] = chunk
        start += len(chunk)
    frames.flags.writeable = False
    return frames


def _spill(chunks: list[Frames], stream: Iterator[Frames], path: Path) -> Frames:
    shape = chunks[0].shape[1:]
    count = 0
    try:
        with tempfile.TemporaryFile(prefix="lt-eval-") as file:
            for chunk in itertools.chain(_emptied(chunks), stream):
                file.write(chunk.data)
                count += len(chunk)
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=(count, *shape))
    except OSError as error:
        raise StorageFullError(
            f"{tempfile.gettempdir()}: no room for the decoded frames of {path} after {count} of them "
            f"({error.strerror}). Make room, set TMPDIR to a larger folder, or choose a smaller size"
        ) from error


def _emptied(chunks: list[Frames]) -> Iterator[Frames]:
    """Yield the chunks and let go of each, so that a copy of them all needs no second room."""
    chunks.reverse()
    while chunks:
        yield chunks.pop()
