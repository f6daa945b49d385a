"""One of each: a metric of single clips, a metric of two sets, a data set, a generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lt_eval.interfaces import Clip
from lt_eval.records import Audio, Column, Dialogue, Features, Frames, Sample, Turn


@dataclass(frozen=True)
class Sharpness:
    """Variance of the Laplacian of a frame in grey levels, the mean over frames."""

    every: int = 1

    columns = {"Sharpness": Column("higher", unit="levels²")}

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Return the mean over every `every`-th frame."""
        grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in sample.clip.frames[:: self.every])
        return {"Sharpness": float(np.mean([cv2.Laplacian(frame, cv2.CV_64F).var() for frame in grey]))}


@dataclass(frozen=True)
class ColourDistance:
    """Distance between the mean colours of two sets of clips."""

    columns = {"Colour distance": Column("lower", unit="levels", fixed_by_reference=True)}

    def features(self, clip: Clip) -> Features:
        """Return float32 [T, 3]: the mean colour of each frame."""
        return np.asarray(clip.frames.mean(axis=(1, 2)), np.float32)

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        """Return the Euclidean distance between the two means over all frames."""
        means = (np.concatenate(list(clips)).mean(axis=0, dtype=np.float64) for clips in (generated, reference))
        return {"Colour distance": float(np.linalg.norm(next(means) - next(means)))}


@dataclass(frozen=True)
class Recordings:
    """A folder of portraits, each with the speech that it shall speak: NAME.png and NAME.wav."""

    root: str

    @property
    def version(self) -> str:
        """A hash of the names and of what the files hold."""
        digest = hashlib.sha256()
        for path in (*self._portraits(), *(path.with_suffix(".wav") for path in self._portraits())):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        """Return the number of portraits."""
        return len(self._portraits())

    def __getitem__(self, index: int, /) -> Dialogue:
        """Return one portrait with its speech."""
        portrait = self._portraits()[index]
        return Dialogue(portrait.stem, (Turn(speech=portrait.with_suffix(".wav")),), portrait=portrait)

    def _portraits(self) -> list[Path]:
        return sorted(Path(self.root).glob("*.png"))


@dataclass(frozen=True)
class Glow:
    """The portrait glows as loudly as the audio is, a little warmer with each turn."""

    fps: float = 25.0
    sample_rate: int = 16_000

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[GlowSession]:
        """Open a conversation."""
        yield GlowSession(self, portrait)


class GlowSession:
    """One conversation."""

    def __init__(self, generator: Glow, portrait: Frames) -> None:
        self.samples, self.portrait, self.warmth = round(generator.sample_rate / generator.fps), portrait, 0

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        """Yield the frames that the audio so far is enough for."""
        self.warmth += 8
        held = np.zeros(0, np.float32)
        for chunk in speech:
            held = np.concatenate([held, chunk])
            count = len(held) // self.samples
            if count:
                sound, held = np.split(held, [count * self.samples])
                glow = 255.0 * np.abs(sound).reshape(count, -1).mean(axis=1)
                frames = self.portrait + glow[:, None, None, None] + np.array([self.warmth, 0.0, 0.0])
                yield np.clip(frames, 0.0, 255.0).astype(np.uint8)
