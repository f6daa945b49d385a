"""What the codecs of joonson/syncnet_python 6efbb1c (MIT) do to a clip before SyncNet sees it, with no ffmpeg command.

    clip at 25 fps  -> MPEG-4, quantiser 2, and MP3 in an AVI
    AVI             -> shots; JPEG, quantiser 2, one a frame; 16 kHz mono PCM
    face crops      -> MPEG-4 as OpenCV's XVID writer makes it -> JPEG at mjpeg's default bit rate
    PCM             -> cut to the track

Every step is an encoder and a decoder in this process. Beside the same steps by ffmpeg 5.1.9 and OpenCV 4.14, from the
same 25 fps file, sound is the same to the last bit, and so are JPEG and XVID pictures of the same input (but for an odd
one whose default bit rate gives the next quantiser). The first MPEG-4 step is the same from its 13th frame on beside
ffmpeg with one thread. With other numbers of threads ffmpeg differs from itself by as much: 3e-4 of Sync-D, ours 2e-4.

The one named departure: we start from a constant-rate 25 fps file. Upstream's own conversion to 25 fps lets AVI skip
frames, and then loses or cuts clips of other rates.

Two habits of ffmpeg's AVI writer are kept, because they move sound against picture. libmp3lame delays sound by 1105
samples of its own rate (25 ms at 44.1 kHz, 69 ms at 16 kHz), which AVI cannot tell its reader; and so that no packet
begins before 0 the pictures behind the first move back by that time, rounded up to whole frames.
"""

from __future__ import annotations

import itertools
import tempfile
import weakref
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from lt_eval.errors import UnscorableError
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import Decoding
from lt_eval.media.picture import orient
from lt_eval.media.probe import display_matrix
from lt_eval.media.reader import Reader
from lt_eval.media.spectra import pcm16
from lt_eval.metrics.face_boxes import Footage
from lt_eval.metrics.shots import shots_of
from lt_eval.metrics.sync_mp3 import MP3_DELAY, Mp3Sound, mp3_of_file, mp3_round_trip
from lt_eval.records import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from av.container import InputContainer
    from numpy.typing import NDArray

    from lt_eval.interfaces import Clip
    from lt_eval.metrics.shots import Shot
    from lt_eval.metrics.sync_mp3 import Sound
    from lt_eval.records import Frames

    Planes = NDArray[np.uint8]  # [H * 3 / 2, W]: YUV 4:2:0, limited range, as av lays it out in one array

FPS = 25

_QSCALE_2 = {"qmin": "2", "qmax": "2", "i_qfactor": "-1", "b": "1000000000"}
"""What `-qscale:v 2` does, as rate control with one quantiser and no want of bits: the option itself works through a
field of every frame that av does not show."""

_XVID = {"b": str(64 * FPS * 224 * 224), "qmin": "3"}
"""What OpenCV's writer asks for: 64 bits a pixel, so that the quantiser always stays at its minimum."""

_IN_MEMORY_BYTES = 256 * 2**20


# The clip at 25 frames a second ---------------------------------------------------------------------------------------


def reference_footage(clip: Clip, speech: Path | None = None) -> Footage:
    """Return a clip as upstream's first three commands leave it.

    A file that is read whole and upright keeps its own colour planes, sample rate and channels, so that at 25 fps
    nothing departs from upstream; of other clips the canonical frames are encoded.

    Args:
        clip: at 25 frames a second.
        speech: audio to take instead of the clip's own.

    Raises:
        NoAudioError: there is no sound.
        MediaError: a file does not decode.
    """
    try:
        jpegs, shots, sound = _first_pass(clip, whole=True)
    except _NotPlain:
        jpegs, shots, sound = _first_pass(clip, whole=False)
    audio, rate_hz = sound() if speech is None else mp3_of_file(speech)
    count = len(jpegs)
    late = -(-MP3_DELAY * FPS // rate_hz)
    instants = np.minimum(np.r_[np.zeros(late, np.int64), 1, 1 : max(2, count)][:count], count - 1)
    return Footage(_Shown(jpegs, instants), instants, shots, audio)


def round_trip(crops: Iterable[Frames]) -> Iterator[Frames]:
    """Yield the face crops, uint8 RGB [224, 224, 3], as upstream's SyncNet reads them from its files."""
    for data in _jpegs(_mpeg4(map(_planes_of, crops), _XVID), {}):
        yield _picture(data)


def _first_pass(clip: Clip, *, whole: bool) -> tuple[JpegFile, list[Shot], Callable[[], Sound]]:
    planes, sound = _from_file(clip, whole=whole) if isinstance(clip, MediaClip) else _from_arrays(clip)
    jpegs = JpegFile()
    return jpegs, shots_of(jpegs.filled(_mpeg4(planes, _QSCALE_2))), sound


def _from_file(clip: MediaClip, *, whole: bool) -> tuple[Iterator[Planes], Callable[[], Sound]]:
    if whole and clip.policy.size is None and clip.content is None:
        decoding: _Sounded = _Plain(clip.path, clip.policy)
        return itertools.chain.from_iterable(decoding), lambda: decoding.sound
    decoding = _Sounded(clip.path, clip.policy, clip.content)
    return map(_planes_of, itertools.chain.from_iterable(decoding)), lambda: decoding.sound


def _from_arrays(clip: Clip) -> tuple[Iterator[Planes], Callable[[], Sound]]:
    def sound() -> Sound:
        frame = av.AudioFrame.from_ndarray(clip.audio[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, 0, Fraction(1, SAMPLE_RATE_HZ)
        return mp3_round_trip([frame], Fraction(0))

    return map(_planes_of, clip.frames), sound


class _NotPlain(Exception):
    """A picture that must be turned, or has an odd side: its planes cannot be taken as they are."""


class _Sounded(Decoding):
    """Canonical frames, with the sound after its way through MP3."""

    _mp3: Mp3Sound

    def _reader(self, container: InputContainer) -> Reader:
        return self._heard(super()._reader(container))

    def _heard(self, reader: Reader) -> Reader:
        timeline = reader.timeline
        reader.sound = self._mp3 = Mp3Sound(lambda: timeline.origin_s if timeline.count else None)
        return reader

    @property
    def sound(self) -> Sound:
        """Samples, and the rate of the MP3; raises NoAudioError."""
        return pcm16(self.audio), self._mp3.rate_hz


class _Plain(_Sounded):
    """Colour planes of upright pictures instead of canonical frames."""

    def _reader(self, container: InputContainer) -> Reader:
        return self._heard(_PlanesReader(self.path, container, skip_first=self._policy.skip_first_frame))


class _PlanesReader(Reader):
    def _rgb(self, frame: av.VideoFrame) -> Planes:
        if frame.width % 2 or frame.height % 2 or not _is_upright(display_matrix(frame)):
            raise _NotPlain
        if frame.format.name == "yuvj420p":
            return _limited_range(cast("Planes", frame.to_ndarray()))
        return cast("Planes", _yuv420p(frame).to_ndarray())


def _is_upright(matrix: Sequence[int]) -> bool:
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2)
    return np.array_equal(orient(corners, matrix), corners)


# Pictures -------------------------------------------------------------------------------------------------------------


def _planes_of(frame: Frames) -> Planes:
    """Return the planes of uint8 RGB [H, W, 3], without the last row or column where their number is odd.

    Blue comes first on the way, as in OpenCV's writer: libswscale rounds the two orders half a level apart.
    """
    if min(frame.shape[:2]) < 2:
        raise UnscorableError(
            "picture_too_small", f"pictures of {frame.shape[1]}x{frame.shape[0]} pixels have no colour."
        )
    even = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2, ::-1])
    return cast("Planes", _yuv420p(av.VideoFrame.from_ndarray(even, format="bgr24")).to_ndarray())


def _yuv420p(frame: av.VideoFrame) -> av.VideoFrame:
    # Without the range said, levels of a full-range picture would be taken over as they are.
    return VideoReformatter().reformat(
        frame, format="yuv420p", interpolation=Interpolation.BICUBIC, dst_color_range=ColorRange.MPEG, threads=1
    )


def _mpeg4(planes: Iterable[Planes], options: dict[str, str]) -> Iterator[av.VideoFrame]:
    """Yield pictures as they come out of an MPEG-4 stream."""
    encoder: Any = None
    decoder: Any = av.CodecContext.create("mpeg4", "r")
    decoder.thread_count = 1
    for number, picture in enumerate(planes):
        if encoder is None:
            encoder = _encoder("mpeg4", picture, "yuv420p", options)
        for packet in encoder.encode(_frame(picture, "yuv420p", number)):
            yield from decoder.decode(packet)
    for packet in encoder.encode(None) if encoder is not None else []:
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


def _jpegs(pictures: Iterable[av.VideoFrame], options: dict[str, str]) -> Iterator[bytes]:
    """Yield a JPEG of each picture; its quality may depend on those before."""
    encoder: Any = None
    for number, frame in enumerate(pictures):
        planes = _full_range(cast("Planes", frame.to_ndarray()))
        if encoder is None:
            encoder = _encoder("mjpeg", planes, "yuvj420p", options)
        yield b"".join(map(bytes, encoder.encode(_frame(planes, "yuvj420p", number))))


def _encoder(codec: str, planes: Planes, pix_fmt: str, options: dict[str, str]) -> Any:
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = planes.shape[1], planes.shape[0] * 2 // 3, pix_fmt
    encoder.time_base, encoder.framerate = Fraction(1, FPS), Fraction(FPS)
    # With it a JPEG has the header that the command line writes, whose bits mjpeg's rate control counts.
    encoder.sample_aspect_ratio = Fraction(1)
    # More threads cut pictures into slices, and the result would depend on the machine.
    encoder.options = {"threads": "1", **options}
    return encoder


def _frame(planes: Planes, pix_fmt: str, number: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(planes, format=pix_fmt)
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


_LEVELS = np.arange(256)
_FULL_LUMA = np.clip(np.rint((_LEVELS - 16) * 255 / 219), 0, 255).astype(np.uint8)
_FULL_CHROMA = np.clip(np.rint((_LEVELS - 128) * 255 / 224 + 128), 0, 255).astype(np.uint8)
_LIMITED_LUMA = np.rint(_LEVELS * 219 / 255 + 16).astype(np.uint8)
_LIMITED_CHROMA = np.rint((_LEVELS - 128) * 224 / 255 + 128).astype(np.uint8)


def _full_range(planes: Planes) -> Planes:
    """Return planes of full range, rounded to the nearest as ffmpeg 5.1's swscale does; today's may be one off."""
    return _mapped(planes, _FULL_LUMA, _FULL_CHROMA)


def _limited_range(planes: Planes) -> Planes:
    """Return planes of limited range for planes of full range, with the same rounding."""
    return _mapped(planes, _LIMITED_LUMA, _LIMITED_CHROMA)


def _mapped(planes: Planes, luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> Planes:
    height = planes.shape[0] * 2 // 3
    return np.concatenate([cv2.LUT(planes[:height], luma), cv2.LUT(planes[height:], chroma)])


def _picture(jpeg: bytes) -> Frames:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


class JpegFile:
    """JPEGs by number, in memory up to 256 MB and in a nameless temporary file beyond."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, prefix="lt-eval-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._ends = [0]

    def filled(self, pictures: Iterable[av.VideoFrame]) -> Iterator[Frames]:
        """Append a JPEG of each picture, quantiser 2, and yield the picture before it, uint8 RGB [H, W, 3]."""
        before, shown = itertools.tee(pictures)
        for jpeg, picture in zip(_jpegs(before, {"qmin": "2", "qmax": "2"}), shown, strict=True):
            self._file.write(jpeg)
            self._ends.append(self._ends[-1] + len(jpeg))
            yield cast("Frames", picture.to_ndarray(format="rgb24"))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int, /) -> Frames:
        """Return uint8 RGB [H, W, 3]."""
        self._file.seek(self._ends[index])
        return _picture(self._file.read(self._ends[index + 1] - self._ends[index]))


class _Shown:
    """Some of the pictures of a file, in some order."""

    def __init__(self, jpegs: JpegFile, numbers: NDArray[np.int64]) -> None:
        self._jpegs, self._numbers = jpegs, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int, /) -> Frames:
        return self._jpegs[int(self._numbers[index])]
