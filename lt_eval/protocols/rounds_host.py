"""A system in a thread of its own: one conversation, turn by turn, each piece timed, each turn within a limit.

A piece is timed when the system hands it over; until it has been put away (encoded, written) the system waits, so that
only its own time counts. A turn that takes longer than its limit is given up; a thread that does not end is left alone.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from lt_eval.interfaces import Piece, SystemSession
    from lt_eval.records import Audio

GRACE_S = 5.0
"""How long an ended conversation's thread may take to end too."""


class Arrival(NamedTuple):
    """A piece of an answer and the seconds that the system has spent on the turn; None ends the turn."""

    spent_s: float
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
        self._given: queue.Queue[Arrival | BaseException] = queue.Queue()
        self._go = threading.Semaphore(0)
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
            self._next(0.0)
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
        spent_s = 0.0
        while True:
            arrival = self._next(spent_s)
            spent_s = arrival.spent_s
            yield arrival
            if arrival.piece is None:
                return
            self._go.release()

    def _next(self, spent_s: float) -> Arrival:
        try:
            given = self._given.get(timeout=max(0.0, self._limit_s - spent_s))
        except queue.Empty:
            raise UnscorableError(
                "timeout", f"The system took longer than {self._limit_s:g} s; turn_timeout_s is the limit of a turn."
            ) from None
        if isinstance(given, BaseException):
            raise given
        return given

    def _leave(self) -> None:
        self._left.set()
        self._asked.put(None)
        self._go.release()
        self._thread.join(GRACE_S)

    # In the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with self._open() as session:
                self._given.put(Arrival(0.0, None))
                while (asked := self._asked.get()) is not None and not self._left.is_set():
                    self._answer(session, *asked)
        except BaseException as error:  # it belongs to the thread that asks
            self._given.put(error)

    def _answer(self, session: SystemSession, text: str, audio: Audio | None) -> None:
        spent_s, mark = 0.0, time.perf_counter()
        for piece in session.answer(text, audio):
            spent_s += time.perf_counter() - mark
            self._given.put(Arrival(spent_s, piece))
            self._go.acquire()
            if self._left.is_set():
                return
            mark = time.perf_counter()
        spent_s += time.perf_counter() - mark
        self._given.put(Arrival(spent_s, None))
