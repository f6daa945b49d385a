"""A bounded way from one thread to another that can always be closed: no wait in it outlives its other end.

A full one makes its sender wait, which is the back-pressure; an empty one its receiver. When it is closed the sender is
told so and nothing more goes in, and the receiver gets what is left and then the end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 1.0
"""Waits are ended by notifications; looking again now and then costs nothing and survives a lost one."""


class Channel(Generic[T]):
    """Items from one sender to one receiver, in order.

    Args:
        capacity: total size of items from which on the sender waits. One item always fits into an empty channel.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[tuple[T, int]] = deque()
        self._held = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, size: int = 1) -> bool:
        """Send an item, waiting while the channel is full; return False if it is closed and the item dropped."""
        with self._changed:
            while self._held >= self._capacity and not self._closed:
                self._changed.wait(_POLL_S)
            if self._closed:
                return False
            self._items.append((item, size))
            self._held += size
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """End it, from either side or from a third thread, as often as one likes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield items as they come until the channel is closed and empty."""
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._changed.wait(_POLL_S)
                if not self._items:
                    return
                item, size = self._items.popleft()
                self._held -= size
                self._changed.notify_all()
            yield item
