"""One candidate into one clip: cut, crop, encode; the same for every data set."""

from __future__ import annotations

import io
import itertools
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from lt_eval.datasets import manifest
from lt_eval.datasets.candidates import Candidate, FaceCentre
from lt_eval.datasets.crop import find_face, letterboxed, no_face, published_square, side_px, square_around
from lt_eval.datasets.folder import sha256_of
from lt_eval.datasets.manifest import PreparedClip
from lt_eval.datasets.segment import Segment, sound
from lt_eval.datasets.select import start_within
from lt_eval.errors import UnscorableError
from lt_eval.media.encode import VideoWriter
from lt_eval.media.picture import crop, fit
from lt_eval.records import SAMPLE_RATE_HZ, Box, MediaPolicy
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames

FPS = 25.0
"""What SyncNet was trained on, and what the published tables of this field use."""

LOOKED_AT = 5
"""Frames in which a face is searched, spread evenly over the clip."""

LARGEST_ZOOM = 4.0
"""A crop enlarged more than this is a blur, which the metrics would take for the reference."""

WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class ClipOptions:
    """How a clip is made.

    Attributes:
        seconds: its length.
        seed: of its start within the candidate.
        size: side of the square frame in pixels, even.
        fit: "face", a square crop around it, or "letterbox", the whole frame between black bars.
    """

    seconds: float
    seed: int
    size: int
    fit: Literal["face", "letterbox"]


def make_clip(candidate: Candidate, source: Path, root: Path, options: ClipOptions) -> PreparedClip:
    """Write the files of one clip below `root` and return its record, without a prompt.

    Raises:
        SampleError: the candidate cannot be used: too short, damaged, no face, no sound ...
        StorageFullError: no room.
        StoreError: not writable.
    """
    _refuse_short(candidate, options)
    start_s = start_within(candidate, options.seconds, options.seed)
    square, cropped_by = _crop_of(candidate, start_s, options)
    segment = Segment(candidate.video, start_s, _count(options.seconds, FPS), FPS)
    policy = MediaPolicy(size=options.size, fit="crop" if options.fit == "face" else "letterbox")
    frames = (fit(crop(picture, square), policy) for picture in segment)
    clip_name, speech_name, portrait_name = manifest.file_names(candidate.id)
    every = max(1, _count(options.seconds, FPS) // LOOKED_AT)
    seen: list[Frames] = []
    with VideoWriter(root / clip_name, FPS) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame[None])
            if index % every == 0:
                seen.append(frame)
        # after the frames, so that a video that ends too soon is called too short and not short of sound
        audio = sound(candidate.video, segment.origin_s, options.seconds)
        writer.write_audio(audio)
    _write_wav(root / speech_name, audio)
    _write_png(root / portrait_name, seen[0])
    return PreparedClip(
        id=candidate.id,
        person=candidate.person,
        source=candidate.video.relative_to(source).as_posix(),
        source_bytes=candidate.video.stat().st_size,
        start_s=round(float(segment.origin_s), 6),
        end_s=round(float(segment.origin_s) + options.seconds, 6),
        crop=square,
        content=letterboxed(*segment.shape, options.size) if options.fit == "letterbox" else None,
        face=find_face(seen),
        cropped_by=cropped_by,
        prompt="",
        files={name: sha256_of(root / name) for name in (clip_name, speech_name, portrait_name)},
    )


def _refuse_short(candidate: Candidate, options: ClipOptions) -> None:
    length_s = candidate.end_s - candidate.start_s
    if length_s < options.seconds - 1e-6:
        raise UnscorableError("too_short", f"annotated for {length_s:.2f} s, and {options.seconds:g} s are needed")


def _crop_of(candidate: Candidate, start_s: float, options: ClipOptions) -> tuple[Box, str]:
    """The part of the frame to keep and how it was found.

    A letterboxed clip must show a face as a cropped one must, so that both choices of `fit` give the same clips.
    """
    preview = Segment(candidate.video, start_s, LOOKED_AT, LOOKED_AT / options.seconds)
    pictures = iter(preview)
    first = next(pictures)
    width, height = preview.shape
    region = candidate.region
    if candidate.is_cut and abs(width - height) <= 2:
        square, how = WHOLE, "cut clip"
    elif region is not None and not isinstance(region, FaceCentre):
        square, how = published_square(region, width, height), "annotation"
    else:
        face = find_face(itertools.chain([first], pictures), near=region)
        if face is None:
            raise no_face(candidate.video.name)
        square, how = square_around(face, width, height), "detector"
    if side_px(square, width) * LARGEST_ZOOM < options.size:
        raise UnscorableError(
            "face_too_small",
            f"the crop is {side_px(square, width)} pixels wide and would be enlarged more than {LARGEST_ZOOM:g} times",
        )
    return (square, how) if options.fit == "face" else (WHOLE, "none")


def _count(seconds: float, fps: float) -> int:
    return round(seconds * fps)


def _write_wav(path: Path, audio: Audio) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.round(np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    with atomic_write(path, "wb") as out:
        out.write(buffer.getvalue())


def _write_png(path: Path, frame: Frames) -> None:
    _, data = cv2.imencode(".png", np.ascontiguousarray(frame[:, :, ::-1]))
    with atomic_write(path, "wb") as out:
        out.write(data.tobytes())
