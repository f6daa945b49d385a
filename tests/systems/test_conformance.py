"""The shipped checks of systems and talkers: ours pass, and each clause catches who breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

from lt_eval.interfaces import Piece
from lt_eval.systems.reference import Reference
from lt_eval.testing import ConformanceError, check_system, check_talker
from tests.protocols.rounds_world import HERE, TOY, System, Talker


def test_ours_keep_their_contracts() -> None:
    check_system(System)
    check_system(partial(Reference, talker=f"{HERE}:Talker", generator=TOY))
    check_talker(Talker)


def system(*pieces: Any, **attributes: Any) -> Callable[[], Any]:
    """Return a factory of a system whose every turn gives these pieces."""

    class Odd:
        fps, sample_rate = 25.0, 16_000

        @contextmanager
        def session(self, portrait: Any, *, persona: str = "", seed: int = 0) -> Iterator[Any]:
            yield self

        def answer(self, text: str, audio: Any = None) -> Iterator[Any]:
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece

    for name, value in attributes.items():
        setattr(Odd, name, value)
    return Odd


SOUND = np.full(3200, 0.1, np.float32)
FRAMES = np.zeros((5, 64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("factory", "clause"),
    [
        (system(Piece("a", SOUND), Piece(frames=FRAMES[:, :63])), "even sides"),
        (system(Piece("a", SOUND), Piece(frames=FRAMES[:2]), Piece(frames=FRAMES[:2, :32])), "one size"),
        (system(Piece("a", SOUND), Piece(frames=FRAMES.astype(np.float32))), "uint8 RGB"),
        (system(Piece("a", None, FRAMES)), "no later than the frames"),
        (system(Piece("a", SOUND)), "every turn has frames"),
        (system(Piece("a", SOUND.astype(np.float64)), Piece(frames=FRAMES)), "finite float32"),
        (system(Piece("a", SOUND * np.float32(np.inf)), Piece(frames=FRAMES)), "finite float32"),
        (system(RuntimeError("boom")), "boom"),
        (system(Piece("a", SOUND), Piece(frames=FRAMES), fps=0), "positive number"),
    ],
)
def test_each_clause_catches_who_breaks_it(factory: Callable[[], Any], clause: str) -> None:
    with pytest.raises(ConformanceError, match=clause):
        check_system(factory)


def talker(*pieces: Any) -> Callable[[], Any]:
    class Odd:
        def reply(self, history: Any, text: str, audio: Any = None, *, persona: str = "") -> Iterator[Any]:
            yield from pieces

    return Odd


@pytest.mark.parametrize(
    ("factory", "clause"),
    [
        (talker(), "every answer has sound"),
        (talker(("words", SOUND[:0])), "every answer has sound"),
        (talker(("words", SOUND[None])), "float32"),
        (talker((b"words", SOUND)), "a piece is"),
    ],
)
def test_a_talker_that_breaks_a_clause_is_caught(factory: Callable[[], Any], clause: str) -> None:
    with pytest.raises(ConformanceError, match=clause):
        check_talker(factory)
