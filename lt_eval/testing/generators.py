"""The contract of Generator and Session, clause by clause."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.testing.contract import Contract, name_of
from lt_eval.testing.fakes import read_only, toy_portrait, toy_speech

if TYPE_CHECKING:
    from lt_eval.interfaces import Generator, Session
    from lt_eval.records import Audio


@dataclass(frozen=True)
class Streaming:
    """What `check_generator` saw of a generator's streaming. Information, not a verdict.

    Attributes:
        first_frame_after_s: seconds of audio it had taken when its first frames came.
        audio_s: seconds of audio it was given.
        video_s: seconds of video it made of them.
    """

    first_frame_after_s: float
    audio_s: float
    video_s: float

    @property
    def streams(self) -> bool:
        """True if frames came before all audio was in."""
        return self.first_frame_after_s < self.audio_s


def check_generator(factory: Callable[[], Generator], size: int = 64, seconds: float = 2.0) -> Streaming:
    """Check the contract of Generator, and return how it streams.

    Args:
        factory: makes the generator with its default options.
        size: side of the square portrait it is given.
        seconds: audio of each of the two turns; chunks of 0.1 s.

    Raises:
        ConformanceError: a clause does not hold.
    """
    contract = Contract(f"Generator {name_of(factory)}")
    generator = contract.call("the factory makes a generator with no arguments", factory)
    for name in ("fps", "sample_rate"):
        value = contract.call(f"{name} can be read", getattr, generator, name)
        contract.require(
            isinstance(value, (int, float)) and 0 < value < math.inf, f"{name} is a positive number", repr(value)
        )
    first, streaming = _converse(contract, generator, size, seconds)
    second, _ = _converse(contract, generator, size, seconds)
    other, _ = _converse(contract, factory(), size, seconds)
    for name, again in (("a second session", second), ("a second generator", other)):
        contract.require(first == again, "the same seed and audio give the same frames", f"other frames from {name}")
    with generator.session(toy_portrait(size), prompt="", seed=0) as session:
        abandoned = session.speak(iter([_speech(generator, seconds, 0)]), text="Hello.")
        contract.call("a listener may leave after the first frames", next, iter(abandoned))
    return streaming


def _speech(generator: Generator, seconds: float, seed: int) -> Audio:
    wanted = np.arange(round(seconds * generator.sample_rate)) / generator.sample_rate
    speech = toy_speech(seconds, seed)
    resampled: Audio = read_only(np.interp(wanted, np.arange(len(speech)) / SAMPLE_RATE_HZ, speech).astype(np.float32))
    return resampled


def _converse(contract: Contract, generator: Generator, size: int, seconds: float) -> tuple[list[str], Streaming]:
    """Speak two turns in one session; return a digest of each turn's frames, and how the first turn streamed."""
    portrait = read_only(toy_portrait(size))
    manager = contract.call("session opens", partial(generator.session, portrait, prompt="A person talks.", seed=7))
    with manager as session:
        turns = [_Turn(contract, session, generator, seconds, seed) for seed in range(2)]
    sizes = set().union(*(turn.sizes for turn in turns))
    contract.require(len(sizes) == 1, "all frames of a session have one size", sorted(sizes))
    streaming = Streaming(turns[0].heard_at_first / generator.sample_rate, seconds, turns[0].count / generator.fps)
    return [turn.digest.hexdigest() for turn in turns], streaming


class _Turn:
    """One turn, listened to: how many frames of which sizes, and how much audio was taken before the first."""

    def __init__(self, contract: Contract, session: Session, generator: Generator, seconds: float, seed: int) -> None:
        self.heard = self.heard_at_first = self.count = 0
        self.sizes: set[tuple[int, int]] = set()
        self.digest = hashlib.sha256()
        chunks = self._chunks(_speech(generator, seconds, seed), generator.sample_rate // 10)
        spoken = contract.call("speak takes audio chunks and text=", partial(session.speak, chunks, text="Hello."))
        end = object()
        source = contract.call("speak returns an iterator", iter, spoken)
        while (frames := contract.call("speak yields frames until its audio ends", next, source, end)) is not end:
            self._see(contract, frames)
        contract.require(self.count > 0, "every turn of a session has frames", f"none in turn {seed}")

    def _chunks(self, speech: Audio, step: int) -> Iterator[Audio]:
        for start in range(0, len(speech), step):
            self.heard = min(start + step, len(speech))
            yield speech[start : start + step]

    def _see(self, contract: Contract, frames: Any) -> None:
        shape: tuple[int, ...] = getattr(frames, "shape", ())
        contract.require(
            isinstance(frames, np.ndarray) and frames.dtype == np.uint8 and len(shape) == 4 and shape[3] == 3,
            "speak yields uint8 RGB [T, H, W, 3]",
            f"{type(frames).__name__} of {getattr(frames, 'dtype', '?')} {list(shape)}",
        )
        if self.count == 0:
            self.heard_at_first = self.heard
        self.count += len(frames)
        self.sizes.add((shape[1], shape[2]))
        self.digest.update(frames.tobytes())
