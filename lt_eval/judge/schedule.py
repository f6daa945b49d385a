"""How many requests run at a time, which server gets them, and when one is tried again.

Additive growth while all is well; on 429 four fifths, once per burst, and nothing new before Retry-After is over; on
5xx no growth for a while. Tried again is only what no answer came to: a failed connection, 429 and 5xx.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

START = 4
SHRINK = 0.8
STANDSTILL_S = 10.0
BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
GONE_AFTER = 3
"""Requests in a row that failed in all their tries, after which a server is taken for gone."""


class TransportError(Exception):
    """No answer came. `retry_after_s` is what the server asked to wait; `status` is 0 without an HTTP answer."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float | None = None) -> None:
        self.status, self.retry_after_s = status, retry_after_s
        super().__init__(message)


class RejectedError(Exception):
    """The server answered that it will not answer this request: 4xx other than 429. Never tried again."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


def pick(servers: Sequence[str], key: str) -> str:
    """Return the server that a key always goes to (rendezvous hashing).

    A server that is added or taken away moves only the keys that it gains or loses, so the prefix caches of the others
    stay useful.
    """
    return max(servers, key=lambda server: hashlib.sha256(f"{server}\0{key}".encode()).digest())


class AdaptiveLimit:
    """A limit of concurrent requests to one server; `async with` a slot of it.

    Args:
        maximum: never more than this.
        clock: seconds, rising.
        sleep: waits.
    """

    def __init__(
        self,
        maximum: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.maximum = maximum
        self.capacity = float(min(START, maximum))
        self.clock, self.sleep = clock, sleep
        self._in_use = 0
        self._opens_at = self._grows_at = self._shrunk_at = float("-inf")
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> float:
        """Wait for a slot; return when it was given."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._in_use < max(1, int(self.capacity)))
                wait_s = self._opens_at - self.clock()
                if wait_s <= 0:
                    self._in_use += 1
                    return self.clock()
            await self.sleep(wait_s)

    async def __aexit__(self, *_: object) -> None:
        async with self._changed:
            self._in_use -= 1
            self._changed.notify_all()

    def succeeded(self) -> None:
        """An answer came: a round of successes at full capacity makes room for one more."""
        if self.clock() >= self._grows_at:
            self.capacity = min(float(self.maximum), self.capacity + 1 / self.capacity)

    def throttled(self, given_at: float, retry_after_s: float | None) -> None:
        """429 for a request whose slot was given at `given_at`; requests of one burst shrink once."""
        if given_at > self._shrunk_at:
            self.capacity = max(1.0, self.capacity * SHRINK)
            self._shrunk_at = self.clock()
        if retry_after_s:
            self._opens_at = max(self._opens_at, self.clock() + retry_after_s)

    def broke(self) -> None:
        """5xx: nothing wrong with our rate, but no reason to raise it."""
        self._grows_at = self.clock() + STANDSTILL_S


class Asker:
    """Sends requests to one server within its limit, and again where no answer came.

    Args:
        limit: of the server.
        tries: of one request.
        jitter: between tries, so that many do not return at once.
    """

    def __init__(self, limit: AdaptiveLimit, tries: int, jitter: random.Random | None = None) -> None:
        self._limit, self._tries = limit, tries
        self._jitter = jitter or random.Random()
        self._lost_in_a_row = 0

    async def ask(self, send: Callable[[], Awaitable[T]]) -> T:
        """Return what `send` returns.

        Raises:
            TransportError: no answer in all tries, or the server is gone.
            RejectedError: as `send` raised it, at once.
        """
        for number in range(1, self._tries + 1):
            if self._lost_in_a_row >= GONE_AFTER:
                raise TransportError(f"not asked: the server gave no answer to {GONE_AFTER} requests in a row")
            try:
                async with self._limit as given_at:
                    answer = await send()
            except TransportError as error:
                if error.status == 429:
                    self._limit.throttled(given_at, error.retry_after_s)
                elif error.status:
                    self._limit.broke()
                if number == self._tries:
                    self._lost_in_a_row += error.status != 429  # who throttles is there
                    raise
                await self._limit.sleep(self._pause_s(number, error.retry_after_s))
            else:
                self._lost_in_a_row = 0
                self._limit.succeeded()
                return answer
        raise AssertionError("tries is at least 1")

    def _pause_s(self, number: int, retry_after_s: float | None) -> float:
        backoff_s: float = min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** (number - 1))
        return max(retry_after_s or 0.0, backoff_s * self._jitter.uniform(0.5, 1.0))
