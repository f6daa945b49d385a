"""A person who talks: speech, pictures and the truth about both, as a function of a seed.

    clip = make_clip(7, seconds=5.0, size=256)
    clip.frames, clip.audio, clip.segments, clip.transcript, clip.prompt, clip.boxes

Frame i shows the mouth at the time (i + 0.5) / fps, the middle of the time it is on the screen, so sound and picture
have no lag between them. `Performance.draw(i)` draws any single frame, for training on random windows of long clips.

The same seed gives the same bytes wherever numpy, scipy and OpenCV are the same. Other versions of them may change a
pixel or a sample by one step (interpolation, transcendental functions), which changes a hash but nothing one can see.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.synthetic.face import Face
from lt_eval.synthetic.identity import Identity, make_identity
from lt_eval.synthetic.lexicon import Utterance, make_utterance
from lt_eval.synthetic.motion import MANNERS, Manner, articulate, move
from lt_eval.synthetic.phonemes import SILENCE, Mouth
from lt_eval.synthetic.speaker import TICK_HZ, Segment, Voice, make_voice, plan
from lt_eval.synthetic.voice import synthesise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lt_eval.records import Audio, Box, Frames
    from lt_eval.synthetic.motion import Look, Pose

_LEAST_TAIL_S = 0.12
"""Silence at the end of every clip, so that nobody is cut off."""

_ATTEMPTS = 12
"""Utterances that are tried before the rest of a clip stays silent."""


@dataclass(frozen=True)
class ClipSpec:
    """Everything that decides a clip but its length, size and frame rate.

    Attributes:
        seed: of timing, noise and motion.
        identity: who is seen.
        voice: who is heard.
        manner: how they move.
        script: what they say, as far as it fits; without one they say what comes to them until the time is over.
    """

    seed: int
    identity: Identity
    voice: Voice
    manner: Manner = MANNERS[0]
    script: tuple[Utterance, ...] = ()


@dataclass(frozen=True)
class Performance:
    """A clip before its pixels are drawn.

    Attributes:
        spec: what it was made from.
        audio: float32 [T] mono 16 kHz, as long as the frames.
        segments: phonemes back to back from 0 to the end of the audio.
        transcript: the words.
        fps: frames a second.
        mouth: float64 [frames, 7], columns as the fields of `Mouth`.
        poses: one a frame.
        looks: one a frame.
        size: side of the square frames in pixels.
    """

    spec: ClipSpec
    audio: Audio
    segments: tuple[Segment, ...]
    transcript: str
    fps: float
    mouth: NDArray[np.float64]
    poses: list[Pose] = field(repr=False)
    looks: list[Look] = field(repr=False)
    size: int

    def __len__(self) -> int:
        return len(self.mouth)

    @cached_property
    def face(self) -> Face:
        """The painter; making it costs as much as a dozen frames, and sound alone does not need it."""
        return Face(self.spec.identity, self.size)

    @property
    def prompt(self) -> str:
        """Who is seen, how they move and where, in words."""
        return describe(self.spec)

    def box(self, index: int) -> Box:
        """Face box of a frame, in fractions of it."""
        return self.face.box(Mouth(*self.mouth[index]), self.poses[index])

    def draw(self, index: int) -> Frames:
        """Draw one frame: uint8 RGB [size, size, 3]."""
        return self.face.draw(Mouth(*self.mouth[index]), self.poses[index], self.looks[index])

    def frames(self) -> Iterator[Frames]:
        """Draw all frames in order."""
        return (self.draw(index) for index in range(len(self)))


@dataclass(frozen=True)
class SyntheticClip:
    """A clip with its pixels.

    Attributes:
        frames: uint8 RGB [T, size, size, 3].
        audio: float32 [S] mono 16 kHz, S = T / fps * 16000.
        segments: phonemes back to back from 0 to the end of the audio.
        transcript: the words.
        prompt: who is seen, how they move and where.
        boxes: float64 [T, 4], face box of each frame as fractions: left, top, right, bottom.
        mouth: float64 [T, 7], columns as the fields of `Mouth`.
        fps: frames a second.
    """

    frames: Frames
    audio: Audio
    segments: tuple[Segment, ...]
    transcript: str
    prompt: str
    boxes: NDArray[np.float64]
    mouth: NDArray[np.float64]
    fps: float


def describe(spec: ClipSpec) -> str:
    """Return the motion prompt of a clip."""
    place = {
        "plain": f"in front of a {spec.identity.room_name} wall",
        "lights": "in front of blurred lights",
        "shelves": "in front of bookshelves",
        "window": f"in a {spec.identity.room_name} room with a window",
        "outdoors": "outdoors, in front of green hills",
    }[spec.identity.backdrop]
    person = spec.identity.description
    return f"{person[0].upper()}{person[1:]} talks to the camera {spec.manner.words}, {place}."


def make_spec(seed: int) -> ClipSpec:
    """Draw a person, a voice that goes with their looks, and a manner."""
    rng = np.random.Generator(np.random.PCG64([seed, 3]))
    high = bool(rng.random() < 0.5)
    return ClipSpec(
        seed=seed,
        identity=make_identity(rng, high=high),
        voice=make_voice(rng, high=high),
        manner=MANNERS[int(rng.random() * len(MANNERS))],
    )


class _Planned(NamedTuple):
    segments: list[Segment]
    text: str
    question: bool
    whole: bool


def _fit(segments: list[Segment], utterance: Utterance, end_s: float) -> _Planned:
    """Keep the words that end by `end_s`, without the pause after the last one."""
    kept: list[Segment] = []
    position = words = 0
    for word in utterance.words:
        spoken = position + len(word.phonemes)
        if segments[spoken - 1].end_s > end_s:
            break
        position = spoken + (word.pause_s > 0)
        kept, words = segments[:spoken], words + 1
    whole = words == len(utterance.words)
    text = " ".join(word.text for word in utterance.words[:words])
    return _Planned(kept, text, utterance.question and whole, whole)


def _quantised(time_s: float) -> float:
    return round(time_s * TICK_HZ) / TICK_HZ


def _next(spec: ClipSpec, said: int, at_s: float, last_s: float, rng: np.random.Generator) -> _Planned | None:
    """Plan the next utterance, whole if it can be; only the first one of a clip may be cut, at a word."""
    planned = None
    for _ in range(1 if spec.script else _ATTEMPTS):
        if spec.script and said >= len(spec.script):
            return None
        utterance = spec.script[said] if spec.script else make_utterance(rng)
        planned = _fit(plan(utterance, spec.voice.rate, rng, at_s), utterance, last_s)
        if planned.whole:
            return planned
    return planned if planned is not None and planned.segments and (said == 0 or last_s - at_s > 2.0) else None


def _talk(spec: ClipSpec, seconds: float) -> tuple[list[Segment], str, bool]:
    """Plan speech within `seconds`; return segments from 0 to the end, text, and whether a question ends it."""
    rng = np.random.Generator(np.random.PCG64([spec.seed, 4]))
    last_s, end_s = seconds - _LEAST_TAIL_S, _quantised(seconds)
    start_s = _quantised(min(0.1 + 0.2 * rng.random(), 0.2 * seconds))
    talk: list[Segment] = [Segment(SILENCE, 0, 0.0, start_s)]
    texts: list[str] = []
    question = False
    while (planned := _next(spec, len(texts), start_s, last_s, rng)) is not None:
        if texts:
            talk.append(Segment(SILENCE, 0, talk[-1].end_s, start_s))
        talk += planned.segments
        texts.append(planned.text)
        question = planned.question
        start_s = _quantised(talk[-1].end_s + 0.22 + 0.2 * rng.random())
    if texts:
        talk.append(Segment(SILENCE, 0, talk[-1].end_s, end_s))
    else:
        talk = [Segment(SILENCE, 0, 0.0, end_s)]
    return talk, " ".join(texts), question


def perform(spec: ClipSpec | int, seconds: float = 5.0, size: int = 256, fps: float = 25.0) -> Performance:
    """Plan and voice a clip without drawing it.

    Args:
        spec: what to make, or a seed for `make_spec`.
        seconds: length; the number of frames is the nearest whole one.
        size: side of the square frames in pixels.
        fps: frames a second.
    """
    spec = make_spec(spec) if isinstance(spec, int) else spec
    count = max(1, round(seconds * fps))
    segments, text, question = _talk(spec, count / fps)
    audio = synthesise(segments, spec.voice, spec.seed, question=question)
    samples = round(count / fps * SAMPLE_RATE_HZ)
    audio = np.pad(audio[:samples], (0, max(0, samples - len(audio))))
    times_s = (np.arange(count, dtype=np.float64) + 0.5) / fps
    poses, looks = move(segments, times_s, spec.manner, spec.seed)
    mouth = articulate(segments, times_s, spec.manner.effort)
    return Performance(spec, audio, tuple(segments), text, fps, mouth, poses, looks, size)


def make_clip(spec: ClipSpec | int, seconds: float = 5.0, size: int = 256, fps: float = 25.0) -> SyntheticClip:
    """Make a clip with all its pixels; arguments as of `perform`."""
    shown = perform(spec, seconds, size, fps)
    frames = np.empty((len(shown), size, size, 3), np.uint8)
    for index, frame in enumerate(shown.frames()):
        frames[index] = frame
    boxes = np.array([shown.box(index) for index in range(len(shown))])
    return SyntheticClip(
        frames, shown.audio, shown.segments, shown.transcript, shown.prompt, boxes, shown.mouth, shown.fps
    )


def content_sha256(frames: Frames, audio: Audio) -> str:
    """Hash raw frames and samples, before any encoder; samples as 16-bit integers, little-endian."""
    digest = hashlib.sha256(repr((frames.shape, audio.shape)).encode())
    digest.update(np.ascontiguousarray(frames).data)
    digest.update(np.rint(audio * 32767.0).astype("<i2").tobytes())
    return digest.hexdigest()
