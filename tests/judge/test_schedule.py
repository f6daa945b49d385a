"""When requests run and when they run again, on a clock of our own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from lt_eval.judge.schedule import GONE_AFTER, AdaptiveLimit, Asker, RejectedError, TransportError, pick


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def limit(maximum: int = 32) -> tuple[AdaptiveLimit, Clock]:
    clock = Clock()
    return AdaptiveLimit(maximum, clock, clock.sleep), clock


def outcomes(*steps: Exception | str) -> Callable[[], Awaitable[str]]:
    left = list(steps)

    async def send() -> str:
        step = left.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    return send


def test_never_more_at_a_time_than_the_capacity_and_it_grows_with_success() -> None:
    bound, _ = limit(12)
    running = most = 0

    async def one(asker: Asker) -> None:
        async def send() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            assert running <= int(bound.capacity)
            await asyncio.sleep(0)
            running -= 1

        await asker.ask(send)

    async def all_of_them() -> None:
        asker = Asker(bound, 3)
        await asyncio.gather(*(one(asker) for _ in range(400)))

    asyncio.run(all_of_them())
    assert most == 12 and bound.capacity == 12


def test_429_shrinks_by_a_fifth_once_a_burst_and_waits_as_told() -> None:
    bound, clock = limit(100)
    bound.capacity = 50.0
    clock.now = 5.0
    bound.throttled(given_at=4.0, retry_after_s=30.0)
    bound.throttled(given_at=4.5, retry_after_s=None)  # given before the shrinking: the same burst
    assert bound.capacity == pytest.approx(40.0)
    assert asyncio.run(bound.__aenter__()) >= 35.0
    bound.throttled(given_at=clock.now, retry_after_s=None)
    assert bound.capacity == pytest.approx(32.0)


def test_the_capacity_never_falls_below_one() -> None:
    bound, clock = limit()
    for number in range(50):
        clock.now = number
        bound.throttled(given_at=float(number), retry_after_s=None)
    assert bound.capacity == 1.0


def test_5xx_stops_growth_for_a_while_and_takes_nothing() -> None:
    bound, clock = limit()
    before = bound.capacity
    bound.broke()
    bound.succeeded()
    assert bound.capacity == before
    clock.now += 60
    bound.succeeded()
    assert bound.capacity > before


def test_what_no_answer_came_to_is_asked_again_with_growing_pauses() -> None:
    bound, clock = limit()
    asker = Asker(bound, 5, random.Random(0))
    send = outcomes(TransportError("down"), TransportError("busy", 503), TransportError("429", 429, 7.0), "answer")
    assert asyncio.run(asker.ask(send)) == "answer"
    assert len(clock.slept) >= 3
    assert 0.5 <= clock.slept[0] <= 1.0 <= clock.slept[1] <= 2.0
    assert max(clock.slept) >= 7.0


def test_a_rejection_is_not_asked_again() -> None:
    bound, _ = limit()
    send = outcomes(RejectedError("bad", 400), "never")
    with pytest.raises(RejectedError):
        asyncio.run(Asker(bound, 5).ask(send))
    assert asyncio.run(send()) == "never"  # type: ignore[arg-type]


def test_after_the_last_try_the_failure_is_told() -> None:
    bound, _ = limit()
    with pytest.raises(TransportError, match="third"):
        asyncio.run(Asker(bound, 3).ask(outcomes(*map(TransportError, ("first", "second", "third", "fourth")))))


def test_a_server_that_is_gone_is_not_asked_for_ever() -> None:
    bound, _ = limit()
    asked = 0

    async def send() -> str:
        nonlocal asked
        asked += 1
        raise TransportError("down")

    async def run() -> None:
        asker = Asker(bound, 2)
        for _ in range(20):
            with pytest.raises(TransportError):
                await asker.ask(send)

    asyncio.run(run())
    assert asked == 2 * GONE_AFTER


def test_a_server_that_throttles_is_not_taken_for_gone() -> None:
    bound, _ = limit()

    async def run() -> None:
        asker = Asker(bound, 1)
        for _ in range(2 * GONE_AFTER):
            with pytest.raises(TransportError, match="busy"):
                await asker.ask(outcomes(TransportError("busy", 429)))
        assert await asker.ask(outcomes("answer")) == "answer"

    asyncio.run(run())


def test_a_key_stays_with_its_server_when_others_come_and_go() -> None:
    servers = [f"http://gpu{number}" for number in range(4)]
    keys = [f"ours/s{number}" for number in range(400)]
    before = {key: pick(servers, key) for key in keys}
    assert before == {key: pick(list(reversed(servers)), key) for key in keys}
    assert min(Counter(before.values()).values()) > 60
    after = {key: pick(servers[:3], key) for key in keys}
    assert all(after[key] == before[key] for key in keys if before[key] != servers[3])
