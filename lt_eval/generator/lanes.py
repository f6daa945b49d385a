"""Where denoiser and decoder run at the same time: two threads with a core each, or two streams of a GPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from lt_eval.records import Frames

T = TypeVar("T")

START_S = 10.0
"""More than a thread takes to start."""


class Lane:
    """One of them; entered by one thread at a time.

    Args:
        device: of the tensors.
        threads: that a CPU operation uses. Sums of floats depend on how many threads share them, so this is an option
            of the generator, and neither the machine nor the environment decides it.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self._threads = threads
        self._stream = _cuda_stream(device) if device.type == "cuda" else None
        self._entered = threading.Event()

    def follow(self) -> None:
        """Let what runs here come after what the calling thread has begun."""
        self._entered.clear()
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Run the block here."""
        if self._stream is None:
            torch.get_num_threads()  # a thread's first look takes the process's default, over what was set before it
            torch.set_num_threads(self._threads)
            self._entered.set()
            yield
            return
        self._entered.set()
        with torch.cuda.stream(self._stream):
            yield

    def run(self, work: Callable[[], T]) -> T:
        """Return what a function gives when it runs here, in a thread of its own; wait for it."""
        self.follow()
        with ThreadPoolExecutor(1, "lt-eval lane") as pool:
            done = pool.submit(self._entered_call, work)
            self.wait_until_entered()
            restore_thread_default()
            return done.result()

    def _entered_call(self, work: Callable[[], T]) -> T:
        with self.enter():
            return work()

    def wait_until_entered(self) -> None:
        """Wait for the thread that was started to run here."""
        self._entered.wait(START_S)

    def mark(self) -> torch.cuda.Event | None:
        """Return a mark of everything begun here so far."""
        return None if self._stream is None else self._stream.record_event()

    def take(self, tensor: Tensor, ready: torch.cuda.Event | None) -> Tensor:
        """Return a tensor of another lane, to be used here once what made it is done."""
        if self._stream is not None and ready is not None:
            self._stream.wait_event(ready)
            tensor.record_stream(self._stream)
        return tensor

    def to_host(self, frames: Tensor) -> Frames:
        """Return uint8 [T, H, W, 3] when the pixels are there."""
        if self._stream is None:
            pixels: Frames = frames.numpy()
            return pixels
        host = torch.empty(frames.shape, dtype=torch.uint8, pin_memory=True)
        host.copy_(frames, non_blocking=True)
        self._stream.synchronize()
        pixels = host.numpy()
        return pixels


def _cuda_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Lanes(NamedTuple):
    """Those of one session."""

    denoise: Lane
    decode: Lane


def restore_thread_default() -> None:
    """Give threads to come the caller's number of intra-op threads, which every `Lane.enter` on a CPU has changed."""
    torch.set_num_threads(torch.get_num_threads())
