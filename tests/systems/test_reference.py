"""A talker and a generator as one system: what streams, what is remembered, and what becomes of errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import Piece
from lt_eval.records import Audio, Frames
from lt_eval.systems.reference import Reference
from lt_eval.systems.talking import Talking
from lt_eval.testing import ToyGenerator, toy_portrait

TOY = "lt_eval.testing:ToyGenerator"


class Echo:
    """A talker that repeats the user's line and tells how many turns it remembers, word by word."""

    def __init__(self) -> None:
        self.taken = 0

    def reply(
        self, history: Sequence[tuple[str, str]], text: str, audio: Audio | None = None, *, persona: str = ""
    ) -> Iterator[tuple[str, Audio]]:
        yield f"{persona}{len(history)}: ", np.zeros(0, np.float32)
        for word in text.split():
            self.taken += 1
            yield f"{word} ", np.full(3200, 0.2, np.float32)


class Silent:
    """A talker without a voice."""

    def reply(self, *_: object, persona: str = "") -> Iterator[tuple[str, Audio]]:
        yield "words", np.zeros(0, np.float32)


class Breaking:
    """A talker that fails after its first piece."""

    def reply(self, *_: object, persona: str = "") -> Iterator[tuple[str, Audio]]:
        yield "words", np.full(3200, 0.2, np.float32)
        raise UnscorableError("talker_failed", "the line is dead.")


HERE = "tests.systems.test_reference"


def pieces_of(talker: str, *lines: str, generator: str = TOY) -> list[list[Piece]]:
    system = Reference(talker=f"{HERE}:{talker}", generator=generator)
    with system.session(toy_portrait(64), persona="P", seed=3) as session:
        return [list(session.answer(line)) for line in lines]


def joined(pieces: list[Piece]) -> tuple[str, Audio, Frames]:
    sound = [piece.audio for piece in pieces if piece.audio is not None]
    frames = [piece.frames for piece in pieces if piece.frames is not None]
    return "".join(piece.text for piece in pieces), np.concatenate(sound), np.concatenate(frames)


def test_words_sound_and_frames_belong_together() -> None:
    (pieces,) = pieces_of("Echo", "one two three")
    text, sound, frames = joined(pieces)
    assert text == "P0: one two three " and len(sound) == 3 * 3200
    assert len(frames) == round(len(sound) / 16_000 * 25)


def test_sound_is_given_no_later_than_the_frames_that_show_it() -> None:
    (pieces,) = pieces_of("Echo", "one two three four five six")
    heard = shown = 0.0
    for piece in pieces:
        heard += len(piece.audio) / 16_000 if piece.audio is not None else 0.0
        shown += len(piece.frames) / 25.0 if piece.frames is not None else 0.0
        assert shown <= heard + 1 / 25.0
    assert sum(piece.frames is not None for piece in pieces) > 2  # it streams


def test_history_and_the_generators_memory_go_on_from_turn_to_turn() -> None:
    """ToyGenerator draws one mark a turn; a fresh session would draw one again."""
    _, second = pieces_of("Echo", "hello", "again")
    assert joined(second)[0].startswith("P1: ")
    (alone,) = pieces_of("Echo", "again")
    continued, fresh = joined(second)[2], joined(alone)[2]
    assert continued.shape == fresh.shape and not np.array_equal(continued, fresh)


def test_the_generators_own_sample_rate_is_kept() -> None:
    (pieces,) = pieces_of("Echo", "one two three", generator=f"{HERE}:fast")
    _, sound, frames = joined(pieces)
    assert len(sound) == 3 * 3200  # the viewer hears the talker's sound
    assert len(frames) == round(len(sound) / 16_000 * 25)


def fast() -> ToyGenerator:
    """A generator that wants another rate."""
    return ToyGenerator(sample_rate=24_000)


def test_a_talker_without_a_voice_and_one_that_breaks_are_reasons() -> None:
    with pytest.raises(UnscorableError, match="without a sound"):
        pieces_of("Silent", "hello")
    with pytest.raises(UnscorableError, match="the line is dead"):
        pieces_of("Breaking", "hello")


def test_a_turn_that_failed_is_not_remembered() -> None:
    system = Reference(talker=f"{HERE}:Breaking", generator=TOY)
    with system.session(toy_portrait(64)) as session:
        with pytest.raises(UnscorableError):
            list(session.answer("hello"))
        assert session.history == []


def test_another_talker_or_option_is_another_system() -> None:
    one = Reference(talker=f"{HERE}:Echo", generator=TOY).fingerprint
    assert one == Reference(talker=f"{HERE}:Echo", generator=TOY).fingerprint
    others = [
        Reference(talker=f"{HERE}:Silent", generator=TOY),
        Reference(talker=f"{HERE}:Echo", generator=TOY, generator_options={"block": 3}),
        Reference(talker=f"{HERE}:Echo", generator=TOY, prompt="smile"),
    ]
    assert len({one, *(other.fingerprint for other in others)}) == 4


# The thread -----------------------------------------------------------------------------------------------------------


def test_a_talker_runs_ahead_of_its_listener() -> None:
    done = threading.Event()

    def reply() -> Iterator[tuple[str, Audio]]:
        for _ in range(5):
            yield "word", np.zeros(1, np.float32)
        done.set()

    with Talking(reply()) as talking:
        first = next(iter(talking))
        assert first[0] == "word" and done.wait(5.0)


def test_a_listener_who_leaves_stops_the_talker() -> None:
    closed = threading.Event()

    def reply() -> Iterator[tuple[str, Audio]]:
        try:
            while True:
                yield "word", np.zeros(1, np.float32)
        finally:
            closed.set()

    with Talking(reply()) as talking:
        next(iter(talking))
    started = time.monotonic()
    assert closed.wait(5.0) and time.monotonic() - started < 5.0
