"""What a file is, before and after decoding it, and why it is refused."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from lt_eval.errors import DamagedError, MissingClipError, NotAVideoError, NoVideoError
from lt_eval.media.picture import UPRIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.container import InputContainer
    from av.video.stream import VideoStream

NOT_MEDIA = frozenset({"tty", "image2", "hls", "concat", "dash"})
"""Demuxers that take text or pictures for a video, or follow paths written in a text file."""


@dataclass(frozen=True)
class ClipInfo:
    """The facts of a file.

    Attributes:
        path: the file.
        duration_s: from the start of the first frame to the end of the last.
        frames: pictures in the file.
        fps: average rate, frames / duration_s.
        variable_rate: whether frames differ in length by more than a tenth.
        width: in pixels, as shown (after rotation).
        height: in pixels, as shown.
        rotation_deg: counterclockwise turn that the file asks of its player, and that the decoder applies.
        codec: of the video.
        has_audio: whether there is an audio stream.
        audio_rate_hz: its own sample rate; 0 without one.
        audio_start_s: start of the first sample after the start of the first frame; negative where sound is first.
    """

    path: Path
    duration_s: float
    frames: int
    fps: float
    variable_rate: bool
    width: int
    height: int
    rotation_deg: int
    codec: str
    has_audio: bool
    audio_rate_hz: int
    audio_start_s: float


def file_sha256(path: Path | str) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: Path | str) -> Iterator[InputContainer]:
    """Open a media file for reading.

    Raises:
        MissingClipError: no such file, a folder, or not readable.
        NotAVideoError: empty, text, a still picture, or no known container.
        DamagedError: a known container that lacks its index.
    """
    path = Path(path)
    head = _first_bytes(path)
    try:
        # `file:` keeps a colon in the name from being read as a protocol; the whitelist keeps playlists at home.
        container = av.open(f"file:{path}", "r", metadata_errors="ignore", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        if head[4:8] in (b"ftyp", b"mdat", b"moov", b"free", b"wide") or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
            raise DamagedError(
                path,
                f"begins like a video, but its index is missing or broken ({_short(error)})",
                "It was probably cut off while it was written or copied. Make or copy it again.",
            ) from error
        raise _not_a_video(path, f"is not a video file ({_short(error)})") from error
    with container:
        kinds = {stream.type for stream in container.streams}
        name = container.format.name
        if name in NOT_MEDIA or name.endswith("_pipe") or not kinds & {"video", "audio"}:
            raise _not_a_video(path, f"is not a video file (it reads as {container.format.long_name or name})")
        yield container


def video_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """Return the stream to decode; cover pictures of audio files do not count.

    Raises:
        NoVideoError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise NoVideoError(path, "holds no video stream", "Give a file with pictures.")


def display_matrix(frame: av.VideoFrame) -> Sequence[int]:
    """Return the nine numbers by which a frame asks to be turned, or the upright matrix."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if data is None else [int(n) for n in np.frombuffer(bytes(data), np.int32)]


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise MissingClipError(path, "is a folder, not a file", "Give the path of a video file.")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise MissingClipError(path, "does not exist", "Check the path.") from error
    except OSError as error:
        raise MissingClipError(path, f"cannot be read ({error.strerror})", "Check its permissions.") from error
    if not head:
        raise _not_a_video(path, "is empty (0 bytes)")
    return head


def _not_a_video(path: Path, finding: str) -> NotAVideoError:
    return NotAVideoError(path, finding, "Give an mp4, mov, avi, mkv or webm file, or take it out of the folder.")


def _short(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
