"""What a file is, before and after decoding it, and why it is refused."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from lt_eval.errors import DamagedError, MissingClipError, NotAVideoError, NoVideoError
from lt_eval.media.picture import UPRIGHT, is_sideways
from lt_eval.media.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
"""How Matroska and WebM files begin, and how the element around all of their content does."""

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


def probe(path: Path | str) -> ClipInfo:
    """Return the facts of a file from its packets, decoding one picture only. For choosing files; it proves nothing.

    A damaged file may pass, and `frames` counts coded pictures: `MediaClip.info` counts the decoded ones.

    Raises:
        MediaError: as `opened`; NoVideoError; DamagedError where not even the first picture decodes.
    """
    path = Path(path)
    with opened(path) as container:
        video = video_stream(container, path)
        audio = audio_stream(container)
        first: av.VideoFrame | None = None
        starts: list[tuple[int, int]] = []
        sound_s: Fraction | None = None
        for packet in container.demux([video] if audio is None else [video, audio]):
            stamp = packet.dts if packet.pts is None else packet.pts
            pictures = packet.stream_index == video.index
            if pictures and first is None:
                first = next((frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)), None)
            if stamp is None or packet.is_discard:
                continue
            if pictures:
                starts.append((stamp, packet.duration or 0))
            elif sound_s is None:
                sound_s = stamp * packet.time_base
        if first is None:
            raise NoVideoError(path, "holds a video stream without a single frame", "Make the clip again.")
        timeline = timeline_of(video)
        for stamp, duration in sorted(starts):
            timeline.add(stamp, duration)
        size = (first.width, first.height)
        if is_sideways(display_matrix(first)):
            size = (first.height, first.width)
        return clip_info(path, video, audio, timeline, size, round(first.rotation), audio_start_s=sound_s)


def timeline_of(video: VideoStream) -> Timeline:
    """Return an empty timeline in the stream's own ticks."""
    rate = video.guessed_rate or video.average_rate or Fraction(25)
    return Timeline(video.time_base or Fraction(1, 90_000), 1 / rate)


def clip_info(
    path: Path,
    video: VideoStream,
    audio: AudioStream | None,
    timeline: Timeline,
    size: tuple[int, int],
    rotation_deg: int,
    *,
    audio_start_s: Fraction | None,
) -> ClipInfo:
    """Put the facts together. `size` is (width, height) as shown; `audio_start_s` is container time."""
    return ClipInfo(
        path=path,
        duration_s=float(timeline.duration_s),
        frames=timeline.count,
        fps=float(timeline.fps),
        variable_rate=timeline.varies,
        width=size[0],
        height=size[1],
        rotation_deg=rotation_deg,
        codec=video.codec_context.name,
        has_audio=audio is not None,
        audio_rate_hz=0 if audio is None else audio.sample_rate,
        audio_start_s=0.0 if audio_start_s is None else float(audio_start_s - timeline.origin_s),
    )


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
        if head[4:8] in (b"ftyp", b"mdat", b"moov", b"free", b"wide") or head[:4] in (b"RIFF", EBML):
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
        try:
            yield container
        except av.error.FFmpegError as error:
            raise DamagedError(path, f"does not decode ({_short(error)})", "Make or copy it again.") from error


def video_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """Return the stream to decode; cover pictures of audio files do not count.

    Raises:
        NoVideoError: there is none.
        DamagedError: no decoder knows its codec, as where the codec's name was damaged.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            known: Any = stream.codec_context  # None without a decoder, whatever the type says
            if known is None:
                remedy = "Encode the clip again, for example as H.264, or copy it again."
                raise DamagedError(path, "holds pictures in a codec that is not known here", remedy)
            return stream
    raise NoVideoError(path, "holds no video stream", "Give a file with pictures.")


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the first stream of sound whose codec is known; None where there is none."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def display_matrix(frame: av.VideoFrame) -> Sequence[int]:
    """Return the nine numbers by which a frame asks to be turned, or the upright matrix."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if data is None else [int(n) for n in np.frombuffer(bytes(data), np.int32)]


def lacks_bytes(path: Path) -> bool:
    """Return whether an mp4, mov, avi, mkv or webm file is shorter than its own outer structure says."""
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            return int.from_bytes(head[4:8], "little") + 8 > length
        if head[:4] == EBML:
            size, start = _ebml_size(head, 4)
            segment = start + size
            file.seek(segment)
            head = file.read(16)
            if len(head) < 16:
                return True
            size, start = _ebml_size(head, 4)
            return head[:4] == SEGMENT and size >= 0 and segment + start + size > length
        at = 0
        while head[4:8].isalnum() and at < length:
            file.seek(at)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            size = int.from_bytes(head[8:16], "big") if size == 1 else size or length - at
            at += max(size, 8)
        return at > length


def _ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """Return the length of an EBML element whose size field is at `at` (-1: not stated), and where its body starts."""
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (-1 if value == (1 << 7 * width) - 1 else value), at + width


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
