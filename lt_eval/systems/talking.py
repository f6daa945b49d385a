"""A talker that goes on talking while a generator draws: its pieces wait in a queue until they are asked for."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from lt_eval.records import Audio

    Said = tuple[str, Audio]

_END = object()

MOST_WAITING = 64
"""Pieces; a talker this far ahead waits."""


class Talking:
    """Runs a talker's reply in a thread of its own. Use as a context manager; iterate it once.

    What the talker raises is raised where its next piece would have come. Leaving the block tells the thread to stop
    at its next piece; it is not waited for, since it may be waiting for a server.
    """

    def __init__(self, reply: Iterator[Said]) -> None:
        self._reply = reply
        self._waiting: queue.Queue[Said | BaseException | object] = queue.Queue(MOST_WAITING)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="lt-eval-talker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()

    def __iter__(self) -> Iterator[Said]:
        while True:
            piece = self._waiting.get()
            if piece is _END:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece  # type: ignore[misc]  # neither the end nor an error: a piece

    def _talk(self) -> None:
        try:
            for piece in self._reply:
                if not self._put(piece):
                    return
            self._put(_END)
        except BaseException as error:  # it belongs to the thread that listens
            self._put(error)
        finally:
            close = getattr(self._reply, "close", None)
            if close is not None:
                close()

    def _put(self, piece: Said | BaseException | object) -> bool:
        """Put a piece into the queue; return whether anybody still listens."""
        while not self._left.is_set():
            try:
                self._waiting.put(piece, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
