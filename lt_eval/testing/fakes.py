"""Made-up clips, speech and portraits, and a generator without a model. Deterministic, made in milliseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.errors import NoAudioError
from lt_eval.records import SAMPLE_RATE_HZ, Dialogue, Sample, Turn

if TYPE_CHECKING:
    from types import TracebackType

    from lt_eval.interfaces import Clip
    from lt_eval.records import Audio, Frames


class ArrayClip:
    """A Clip that lives in memory.

    Args:
        frames: uint8 RGB [T, H, W, 3].
        audio: float32 [T] mono, -1..1, 16 kHz; None is a clip without sound.
        fps: frames a second.
        path: what the clip calls itself; no such file need exist.
    """

    def __init__(
        self, frames: Frames, audio: Audio | None = None, fps: float = 25.0, path: Path = Path("memory.mp4")
    ) -> None:
        self.path, self.fps = path, fps
        self.frames: Frames = read_only(frames)
        self._audio: Audio | None = None if audio is None else read_only(audio)

    @property
    def audio(self) -> Audio:
        """float32 [T]; raises NoAudioError where none was given."""
        if self._audio is None:
            raise NoAudioError(self.path, "was made without audio", "Give ArrayClip an array of samples.")
        return self._audio


def read_only(array: Any) -> Any:
    """Return a view of the array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class ToyGenerator:
    """A Generator without a model: over the portrait, a rectangle talks as loudly as the audio does.

    It streams: a block of frames leaves as soon as its audio is there. Its head goes on swaying from turn to turn, and
    it shows one mark for each turn it has spoken, so that a lost memory can be seen.
    """

    fps: float = 25.0
    sample_rate: int = SAMPLE_RATE_HZ
    block: int = 5

    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> ToySession:
        """Open a conversation with the person in `portrait`, uint8 RGB [H, W, 3]."""
        return ToySession(self, portrait, prompt, seed)


class ToySession:
    """One conversation with a ToyGenerator."""

    def __init__(self, generator: ToyGenerator, portrait: Frames, prompt: str, seed: int) -> None:
        rng = np.random.default_rng([seed, *prompt.encode()])
        self.generator, self.portrait = generator, portrait
        self.colour = rng.integers(96, 256, 3)
        self.phase = rng.uniform(0.0, 2.0 * math.pi)
        self.turns: list[str] = []
        self.frames_shown = 0

    def __enter__(self) -> ToySession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.turns.clear()

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        """Yield uint8 [T, H, W, 3], `block` frames at a time; the last frame's audio is filled up with silence."""
        self.turns.append(text)
        samples = round(self.generator.sample_rate / self.generator.fps)
        held = np.zeros(0, np.float32)
        for chunk in speech:
            held = np.concatenate([held, chunk])
            while len(held) >= samples * self.generator.block:
                yield self._draw(held[: samples * self.generator.block].reshape(-1, samples))
                held = held[samples * self.generator.block :]
        if len(held):
            yield self._draw(np.pad(held, (0, -len(held) % samples)).reshape(-1, samples))

    def _draw(self, sound: Audio) -> Frames:
        frames = np.repeat(self.portrait[None], len(sound), axis=0)
        height, width = self.portrait.shape[:2]
        for frame, loudness in zip(frames, np.sqrt(np.mean(sound**2, axis=1)), strict=True):
            sway = math.sin(self.phase + 0.15 * self.frames_shown)
            left = round(width * (0.3 + 0.1 * sway))
            opening = max(1, round(height * 0.4 * min(1.0, 2.0 * float(loudness))))
            frame[height // 2 : height // 2 + opening, left : left + max(1, width * 2 // 5)] = self.colour
            for turn in range(len(self.turns)):
                frame[1 : 1 + height // 16, 1 + turn * width // 8 : 1 + turn * width // 8 + width // 16] = self.colour
            self.frames_shown += 1
        return frames


def toy_speech(seconds: float, seed: int = 0) -> Audio:
    """Return float32 [T] at 16 kHz: syllables of a hummed tone, about four a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    rate, pitch = rng.uniform(3.0, 5.0), rng.uniform(100.0, 220.0)
    loudness = np.maximum(0.0, np.sin(2.0 * np.pi * (rate * t + rng.uniform())))
    return np.asarray(0.6 * loudness * np.sin(2.0 * np.pi * pitch * t), np.float32)


def toy_clip(seconds: float = 2.0, size: int = 128, seed: int = 0) -> ArrayClip:
    """Return a clip of `ToyGenerator` over a seeded, smooth portrait, with its audio."""
    speech = toy_speech(seconds, seed)
    with ToyGenerator().session(toy_portrait(size, seed), seed=seed) as session:
        frames = np.concatenate(list(session.speak([speech])))
    return ArrayClip(frames, speech, path=Path(f"toy{seed}.mp4"))


def toy_portrait(size: int = 128, seed: int = 0) -> Frames:
    """Return uint8 RGB [size, size, 3]: a seeded colour gradient."""
    corners = np.random.default_rng(seed).uniform(0.0, 160.0, (2, 2, 3))
    across = np.linspace(0.0, 1.0, size)[:, None]
    top, bottom = (corners[row, 0] * (1.0 - across) + corners[row, 1] * across for row in (0, 1))
    picture = top[None] * (1.0 - across[:, None]) + bottom[None] * across[:, None]
    return np.asarray(picture, np.uint8)


def toy_samples(clips: Sequence[Clip]) -> list[Sample]:
    """Return a Sample of each clip, as a run of one method would make them."""
    return [Sample("toy", Dialogue(f"clip{n}", (Turn(),)), 0, clip) for n, clip in enumerate(clips)]
