"""Random small videos for fuzz.py: what a folder of clips may hold, and what no encoder would write."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import av
import av.error
import cv2
import numpy as np

from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.synthetic.talker import perform

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream
    from numpy.random import Generator
    from numpy.typing import NDArray

    from lt_eval.records import Audio, Box, Frames

REAL = ("face1", "face2", "face4", "face_480", "generated_with_driving_audio", "hdtf_like_512", "silent_track")
"""Clips of one face each, where a folder of real ones is given."""

_CONTAINERS = (
    ("mp4", "libx264", ("yuv420p", "yuv444p"), "aac"),
    ("mp4", "mpeg4", ("yuv420p",), "aac"),
    ("avi", "mpeg4", ("yuv420p",), "libmp3lame"),
    ("avi", "mjpeg", ("yuvj420p", "yuvj422p"), "pcm_s16le"),
    ("mkv", "ffv1", ("yuv420p", "gray", "bgr0"), "flac"),
    ("webm", "libvpx", ("yuv420p",), "libopus"),
    ("mov", "libx264", ("yuv420p",), "pcm_s16le"),
)

_RATES = ("5", "12", "15", "16", "24", "25", "30000/1001", "50")

_AUDIO_RATES_HZ = (8_000, 16_000, 22_050, 44_100, 48_000)

_LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.1", "7.1")

_HELD_SIDE, _HELD_FRAMES = 240, 150
"""What is kept of a real clip, at 25 frames a second."""


@dataclass(frozen=True)
class Recipe:
    """One random video, as far as it can be told in words."""

    name: str
    picture: str
    sound: str
    container: str
    codec: str
    size: tuple[int, int]
    fps: str
    frames: int
    layout: str
    audio_rate_hz: int
    sidecar: str
    damage: str


class Shown(NamedTuple):
    """What a video shows: uint8 RGB [T, H, W, 3]; its speech, 16 kHz; and the face box of each frame, where known."""

    frames: Frames
    speech: Audio | None = None
    boxes: Sequence[Box] = ()


# Pictures -------------------------------------------------------------------------------------------------------------


def _drawn(count: int, size: tuple[int, int], fps: float, rng: Generator) -> Shown:
    """Return a drawn talker, from a moment within the first second on: before it nobody speaks."""
    side, start = max(32, min(size) // 2 * 2), int(rng.uniform(0.2, 1) * fps)
    talker = perform(int(rng.integers(1 << 30)), seconds=(start + count + 1) / fps, size=side, fps=fps)
    numbers = range(start, start + count)
    frames = [np.asarray(cv2.resize(talker.draw(index), size), np.uint8) for index in numbers]
    return Shown(np.stack(frames), talker.audio[round(start / fps * SAMPLE_RATE_HZ) :], list(map(talker.box, numbers)))


@functools.lru_cache(maxsize=len(REAL))
def _held(path: Path) -> tuple[Frames, Audio]:
    """Return the beginning of a real clip, squashed to a small square."""
    from lt_eval.media.decode import Decoding
    from lt_eval.records import MediaPolicy

    decoding = Decoding(path, MediaPolicy(fps=25.0, size=_HELD_SIDE, fit="squash"))
    frames: list[NDArray[np.uint8]] = []
    for chunk in decoding:  # to the end: only then the sound is whole
        frames += list(chunk) if len(frames) < _HELD_FRAMES else []
    return np.stack(frames[:_HELD_FRAMES]), decoding.audio


def _real(media: Path, count: int, size: tuple[int, int], fps: float, rng: Generator) -> Shown:
    """Return a piece of a real clip, any part of it that holds most of the picture."""
    held, speech = _held(media / "video" / f"{REAL[int(rng.integers(len(REAL)))]}.mp4")
    start = int(rng.integers(0, 40))
    edges = (rng.uniform(0, 0.15, 2) * _HELD_SIDE).astype(int)
    numbers = np.minimum(start + (np.arange(count) * 25 / fps).astype(int), len(held) - 1)
    parts = (held[k][edges[0] : _HELD_SIDE - edges[1], edges[1] :] for k in numbers)
    frames = [np.asarray(cv2.resize(np.ascontiguousarray(part), size), np.uint8) for part in parts]
    return Shown(np.stack(frames), speech[start * 640 :])


def _pictures(recipe: Recipe, media: Path | None, rng: Generator) -> Shown:
    count, (width, height), fps = recipe.frames, recipe.size, float(Fraction(recipe.fps))
    if recipe.picture == "talker":
        return _drawn(count, recipe.size, fps, rng)
    if recipe.picture == "real" and media is not None:
        return _real(media, count, recipe.size, fps, rng)
    if recipe.picture == "two shots":
        parts = [_drawn(share, recipe.size, fps, rng) for share in (count - count // 2, max(1, count // 2))]
        speech = [cast("Audio", part.speech)[: round(len(part.frames) / fps * SAMPLE_RATE_HZ)] for part in parts]
        boxes = [box for part in parts for box in part.boxes]
        return Shown(np.concatenate([part.frames for part in parts]), np.concatenate(speech), boxes)
    if recipe.picture == "noise":
        return Shown(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))
    level = rng.integers(0, 256, 3).astype(np.uint8)
    return Shown(np.broadcast_to(level, (count, height, width, 3)).copy())


# Sound ----------------------------------------------------------------------------------------------------------------


def _sound(kind: str, seconds: float, rate_hz: int, speech: Audio | None, rng: Generator) -> Audio:
    """Return float32 [T] at `rate_hz`."""
    total = max(1, round(seconds * rate_hz))
    if kind == "speech" and speech is not None and len(speech):
        at = np.arange(total) / rate_hz * SAMPLE_RATE_HZ
        return np.asarray(np.interp(at, np.arange(len(speech)), speech, right=0.0), np.float32)
    if kind == "silence":
        return np.zeros(total, np.float32)
    return np.asarray(rng.normal(0, 0.2, total).clip(-1, 1), np.float32)


def _channels_of(stream: AudioStream, samples: Audio) -> list[av.AudioFrame]:
    mono = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    mono.sample_rate, mono.pts = stream.rate, 0
    resampler = av.AudioResampler(format=stream.format.name, layout=stream.layout.name, rate=stream.rate)
    return resampler.resample(mono)


# Files ----------------------------------------------------------------------------------------------------------------


def _write(path: Path, recipe: Recipe, pix_fmt: str, audio_codec: str, media: Path | None, rng: Generator) -> Shown:
    """Encode one video; return what it shows."""
    rate = Fraction(recipe.fps)
    shown = _pictures(recipe, media, rng)
    with av.open(str(path), "w") as file:
        video = cast("VideoStream", file.add_stream(recipe.codec, rate=rate))
        video.width, video.height = recipe.size
        video.pix_fmt = pix_fmt
        audio = None
        if recipe.sound != "none":
            audio = cast("AudioStream", file.add_stream(audio_codec, rate=recipe.audio_rate_hz))
            audio.layout = recipe.layout
        late = int(rng.integers(0, 3)) if rng.random() < 0.2 else 0
        for index, pixels in enumerate(shown.frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index + late, 1 / rate
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if audio is not None:
            stretch = float(rng.choice((0.1, 0.9, 1.0, 1.0, 1.0, 1.0, 1.5)))
            seconds = stretch * len(shown.frames) / float(rate)
            for piece in _channels_of(audio, _sound(recipe.sound, seconds, audio.rate, shown.speech, rng)):
                file.mux(audio.encode(piece))
            file.mux(audio.encode(None))
    return shown


def _sidecar(path: Path, kind: str, shown: Shown, fps: float, rng: Generator) -> None:
    """Write face boxes beside a clip: true ones, ones partly or wholly beside it, nonsense, or not even JSON."""
    beside = path.with_name(f"{path.stem}.faces.json")
    if kind in ("true", "stray") and len(shown.boxes):
        faces: list[Any] = [[float(edge) for edge in box] for box in shown.boxes]
        if kind == "stray":
            for index in rng.integers(0, len(faces), max(1, len(faces) // 8)):
                corner = rng.uniform(-0.9, 1.6, 2)
                faces[index] = [*corner.tolist(), *(corner + rng.uniform(0.01, 0.3, 2)).tolist()]
        beside.write_text(json.dumps({"fps": fps, "faces": faces}))
    elif kind == "nonsense":
        wrong: tuple[object, ...] = (
            {"fps": 25, "faces": [[0.9, 0.9, 0.1, 0.1]] * 200},
            {"fps": 0, "faces": [None] * 3},
            {"fps": 25, "faces": [[-5, -5, 9, 9], [float("nan")] * 4] * 80},
            {"fps": "fast", "faces": {}},
            {"faces": [[0.2, 0.2, 0.8, 0.8]]},
            {"fps": 25, "faces": [[1.2, 0.1, 1.6, 0.4]] * 200},
            [1, 2, 3],
        )
        beside.write_text(json.dumps(wrong[int(rng.integers(len(wrong)))]))
    elif kind == "torn":
        beside.write_text('{"fps": 25, "faces": [[0.1, 0.')


def _damage(path: Path, kind: str, rng: Generator) -> None:
    data = bytearray(path.read_bytes())
    if kind == "flipped":
        for _ in range(int(rng.integers(1, 40))):
            data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    elif kind == "cut":
        data = data[: int(rng.integers(len(data)))]
    elif kind == "garbage":
        at = int(rng.integers(len(data)))
        data[at:at] = rng.bytes(int(rng.integers(1, 5000)))
    path.write_bytes(bytes(data))


def _recipe(name: str, container: str, codec: str, audio_codec: str, media: Path | None, rng: Generator) -> Recipe:
    width, height = (int(side) for side in rng.choice((2, 16, 48, 64, 90, 128, 128, 162, 162, 240), 2))
    seen = ("talker",) * 4 + (("real",) * 3 if media is not None else ()) + ("two shots", "noise", "flat")
    picture = str(rng.choice(seen))
    faces = picture in ("talker", "real", "two shots")
    layouts = {"libmp3lame": _LAYOUTS[:2], "libopus": ("mono", "stereo", "quad", "5.1", "7.1")}
    return Recipe(
        name=name,
        picture=picture,
        sound=str(rng.choice(("speech",) * 5 + ("noise", "silence", "none"))),
        container=container,
        codec=codec,
        size=(width, width if faces or rng.random() < 0.5 else height),
        fps=str(rng.choice(_RATES)),
        frames=int(rng.choice((1, 2, 20, 40, 60, 60, 80, 110, 110, 140))),
        layout=str(rng.choice(layouts.get(audio_codec, _LAYOUTS))),
        audio_rate_hz=48_000 if audio_codec == "libopus" else int(rng.choice(_AUDIO_RATES_HZ)),
        sidecar=str(rng.choice(("none",) * 3 + ("true",) * 6 + ("stray", "stray", "nonsense", "torn"))),
        damage=str(rng.choice(("none",) * 9 + ("flipped", "cut", "garbage"))),
    )


def make(folder: Path, name: str, seed: Sequence[int], media: Path | None = None) -> Recipe | None:
    """Make one random video; None where the encoder refuses the combination.

    Args:
        folder: where `name` with its extension is written, and perhaps face boxes beside it.
        name: without extension.
        seed: decides everything.
        media: folder with video/NAME.mp4 of each of REAL; without it no picture is real.
    """
    rng = np.random.default_rng(seed)
    container, codec, formats, audio_codec = _CONTAINERS[int(rng.integers(len(_CONTAINERS)))]
    recipe = _recipe(name, container, codec, audio_codec, media, rng)
    path = folder / f"{name}.{container}"
    try:
        shown = _write(path, recipe, str(rng.choice(formats)), audio_codec, media, rng)
    except (av.error.FFmpegError, OSError, ValueError):
        path.unlink(missing_ok=True)
        return None
    _sidecar(path, recipe.sidecar, shown, float(Fraction(recipe.fps)), rng)
    _damage(path, recipe.damage, rng)
    return recipe
