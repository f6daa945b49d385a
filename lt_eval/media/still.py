"""Single files that are not clips: a portrait, a speech file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
import numpy as np

from lt_eval.errors import MissingClipError, NoAudioError, NotAVideoError

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames


def read_image(path: Path) -> Frames:
    """Return a picture as uint8 RGB [H, W, 3].

    Raises:
        MissingClipError: there is no readable file.
        NotAVideoError: it is no picture.
    """
    import cv2

    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as cause:
        raise MissingClipError(path, f"cannot be read ({cause.strerror})", "Check the path.") from cause
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise NotAVideoError(path, "is not a picture that can be decoded", "Use PNG or JPEG.")
    return np.ascontiguousarray(image[:, :, ::-1]).astype(np.uint8, copy=False)


def read_audio(path: Path, sample_rate: int) -> Audio:
    """Return the sound of a file as float32 [T] mono, -1..1, at `sample_rate` Hz.

    Raises:
        MissingClipError: there is no readable file.
        NotAVideoError: it is no media file.
        NoAudioError: it holds no sound.
    """
    if not path.is_file():
        raise MissingClipError(path, "there is no such file", "Check the path.")
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    pieces: list[Audio] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise NoAudioError(path, "holds no audio stream", "Give a WAV, FLAC, MP3 or M4A file.")
            for frame in [*container.decode(container.streams.audio[0]), None]:
                pieces.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
    except av.error.FFmpegError as cause:
        raise NotAVideoError(path, f"is not an audio file that can be decoded ({cause})", "Use WAV or FLAC.") from cause
    if not pieces:
        raise NoAudioError(path, "holds no sample", "Give a file with sound.")
    return np.concatenate(pieces).astype(np.float32, copy=False)
