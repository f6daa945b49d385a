"""A system in a thread of its own: one conversation, turn by turn, each piece timed, each turn within a limit.

A piece is timed by the wall clock when the system hands it over, copied and put aside. Nothing is encoded meanwhile: a
system that works ahead would go on, uncounted, while it is. A turn that takes longer than its limit is given up; a
thread that does not end is left alone.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from lt_eval.interfaces import SystemSession
    from lt_eval.records import Audio

MOST_WAITING = 256
"""Pieces; they are put aside at once, so that only a full disk or memory makes a system wait."""

GRACE_S = 5.0
"""How long an ended conversation's thread may take to end too."""


class Arrival(NamedTuple):
    """A piece of an answer and the seconds since the turn began; None ends the turn."""

    at_s: float
    piece: Piece | None


class Host:
    """Holds one conversation. Use as a context manager.

    Args:
        open_session: opens the conversation; called in the thread.
        limit_s: longest time of opening it, and of each turn.
    """

    def __init__(self, open_session: Callable[[], AbstractContextManager[SystemSession]], limit_s: float) -> None:
        self._open, self._limit_s = open_session, limit_s
        self._asked: queue.Queue[tuple[str, Audio | None] | None] = queue.Queue()
        self._given: queue.Queue[Arrival | BaseException] = queue.Queue(MOST_WAITING)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lt-eval-system", daemon=True)

    @property
    def is_stuck(self) -> bool:
        """Whether the thread is still in the system after the conversation has ended: it must not be used again."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        """Open the conversation.

        Raises:
            UnscorableError: it took too long.
            BaseException: whatever the system raised.
        """
        self._thread.start()
        try:
            self._next(time.perf_counter())
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def answer(self, text: str, audio: Audio | None) -> Iterator[Arrival]:
        """Yield what the system gives in one turn; the last arrival has no piece and the whole time.

        Raises:
            UnscorableError: the turn took longer than its limit.
            BaseException: whatever the system raised.
        """
        self._asked.put((text, audio))
        started = time.perf_counter()
        while True:
            arrival = self._next(started)
            yield arrival
            if arrival.piece is None:
                return

    def _next(self, started: float) -> Arrival:
        try:
            given = self._given.get(timeout=max(0.0, started + self._limit_s - time.perf_counter()))
        except queue.Empty:
            raise self._late() from None
        if isinstance(given, BaseException):
            raise given
        if given.at_s > self._limit_s:
            raise self._late()
        return given

    def _late(self) -> UnscorableError:
        return UnscorableError(
            "timeout", f"The system took longer than {self._limit_s:g} s; turn_timeout_s is the limit of a turn."
        )

    def _leave(self) -> None:
        self._left.set()
        self._asked.put(None)
        self._thread.join(GRACE_S)

    # In the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with self._open() as session:
                self._put(Arrival(0.0, None))
                while (asked := self._asked.get()) is not None and not self._left.is_set():
                    self._answer(session, *asked)
        except BaseException as error:  # it belongs to the thread that asks
            self._put(error)

    def _answer(self, session: SystemSession, text: str, audio: Audio | None) -> None:
        started = time.perf_counter()
        for piece in session.answer(text, audio):
            at_s = time.perf_counter() - started
            if not self._put(Arrival(at_s, _copied(piece))):
                return
        self._put(Arrival(time.perf_counter() - started, None))

    def _put(self, given: Arrival | BaseException) -> bool:
        """Hand something over; return whether anybody still listens."""
        while not self._left.is_set():
            try:
                self._given.put(given, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def _copied(piece: Piece) -> Piece:
    """Return a piece that stays as it is when the system uses its buffers again."""
    text, audio, frames = piece
    return Piece(text, None if audio is None else audio.copy(), None if frames is None else frames.copy())
