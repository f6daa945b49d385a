from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lt_eval.generator.channel import Channel

LONG_S = 20.0


def start(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(LONG_S)
    return not thread.is_alive()


def waits(thread: threading.Thread) -> bool:
    time.sleep(0.05)
    return thread.is_alive()


def test_items_come_in_order_and_end_with_the_channel() -> None:
    channel: Channel[int] = Channel(2)

    def send() -> None:
        for item in range(100):
            channel.put(item)
        channel.close()

    sender = start(send)
    assert list(channel) == list(range(100))
    assert ended(sender)


def test_a_full_channel_makes_its_sender_wait() -> None:
    channel: Channel[str] = Channel(10)
    assert channel.put("larger than the channel", size=50)
    sender = start(lambda: channel.put("next"))
    assert waits(sender)
    assert next(iter(channel)) == "larger than the channel"
    assert ended(sender)


def test_closing_frees_a_waiting_sender_who_learns_that_nothing_was_sent() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    sent: list[bool] = []
    sender = start(lambda: sent.append(channel.put(2)))
    assert waits(sender)
    channel.close()
    assert ended(sender) and sent == [False]
    assert list(channel) == [1] and not channel.put(3)


def test_closing_frees_a_waiting_receiver() -> None:
    channel: Channel[int] = Channel(1)
    receiver = start(lambda: list(channel))
    assert waits(receiver)
    channel.close()
    channel.close()
    assert ended(receiver)
