"""The thread that holds a conversation: the wall clock of the system alone, and it can always be left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import Piece
from lt_eval.protocols import rounds_host
from lt_eval.protocols.rounds_host import Host
from lt_eval.records import Audio


class Slow:
    """A session that takes a moment for each of three pieces, and tells when it was closed."""

    def __init__(self, pause_s: float = 0.05) -> None:
        self.pause_s, self.closed = pause_s, threading.Event()

    @contextmanager
    def __call__(self) -> Iterator[Slow]:
        """Open it."""
        try:
            yield self
        finally:
            self.closed.set()

    def answer(self, text: str, audio: Audio | None = None) -> Iterator[Piece]:
        for number in range(3):
            time.sleep(self.pause_s)
            yield Piece(f"{text}{number}")


def test_a_slow_listener_neither_counts_nor_stops_the_clock() -> None:
    """A system that works ahead would look faster than it is if the clock stood still while it does."""
    system = Slow(0.05)
    with Host(system, 10.0) as host:
        times = []
        for arrival in host.answer("a", None):
            times.append(arrival.at_s)
            time.sleep(0.3)
    assert times == sorted(times) and 0.15 <= times[-1] < 0.6


def test_a_piece_that_came_too_late_is_late_though_nobody_was_listening() -> None:
    with Host(Slow(0.3), 0.4) as host:
        answer = host.answer("a", None)
        next(answer)
        time.sleep(0.5)  # the second piece comes after 0.6 s, beyond the limit, before anybody asks for it
        with pytest.raises(UnscorableError, match=r"longer than 0\.4 s"):
            next(answer)


def test_pieces_stay_as_they_were_given() -> None:
    class Reusing(Slow):
        def answer(self, text: str, audio: Audio | None = None) -> Iterator[Piece]:
            buffer = np.zeros((1, 2, 2, 3), np.uint8)
            for level in (1, 2, 3):
                buffer[:] = level
                yield Piece(frames=buffer)

    with Host(Reusing(), 10.0) as host:
        arrivals = list(host.answer("a", None))
    levels = [int(a.piece.frames.max()) for a in arrivals if a.piece is not None and a.piece.frames is not None]
    assert levels == [1, 2, 3]


def test_pieces_come_in_order_and_end_with_none() -> None:
    with Host(Slow(0.0), 10.0) as host:
        for line in ("a", "b"):
            pieces = [arrival.piece for arrival in host.answer(line, np.zeros(1, np.float32))]
            assert [p.text for p in pieces if p is not None] == [f"{line}0", f"{line}1", f"{line}2"]
            assert pieces[-1] is None


def test_the_session_is_closed_where_it_was_opened() -> None:
    system = Slow(0.0)
    with Host(system, 10.0) as host:
        next(iter(host.answer("a", None)))
    assert system.closed.is_set() and not host.is_stuck


def test_a_limit_holds_for_opening_and_for_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_host, "GRACE_S", 0.05)
    released = threading.Event()

    @contextmanager
    def never() -> Iterator[Slow]:
        released.wait(20.0)
        yield Slow()

    with pytest.raises(UnscorableError, match=r"longer than 0\.1 s") as caught, Host(never, 0.1):
        pass
    assert caught.value.code == "timeout"
    released.set()
    with Host(Slow(0.2), 0.3) as host, pytest.raises(UnscorableError, match="turn_timeout_s"):
        list(host.answer("a", None))


def test_a_thread_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_host, "GRACE_S", 0.05)
    host = Host(Slow(0.6), 0.1)
    with pytest.raises(UnscorableError), host:
        list(host.answer("a", None))
    assert host.is_stuck
    time.sleep(1.0)
    assert not host.is_stuck


def test_what_the_system_raises_reaches_the_caller() -> None:
    class Broken(Slow):
        def __call__(self) -> Any:
            raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"), Host(Broken(), 1.0):
        pass
