"""Generators that a test can name: they sleep, raise, hang, crash and yield what they must not."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_eval.records import Audio, Frames


@dataclass(frozen=True)
class Odd:
    """Yields `chunks` chunks of `block` frames, each after `delay_s`, and then does as `mode` says.

    Attributes:
        mode: what goes wrong, from chunk `at` on.
        once: a file; where it is given and exists, nothing goes wrong, and it is made when something does.
    """

    mode: str = ""
    at: int = 1
    chunks: int = 8
    block: int = 4
    delay_s: float = 0.0
    once: str = ""

    fps = 25.0
    sample_rate = 16_000

    @property
    def description(self) -> Mapping[str, Any]:
        return {"dtype": "uint8", "steps": 0}

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Odd]:
        yield self

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for _ in speech:
            pass
        for index in range(self.chunks):
            time.sleep(self.delay_s)
            wrong = index == self.at and not (self.once and Path(self.once).exists())
            if wrong and self.once:
                Path(self.once).touch()
            yield self._wrong() if wrong else np.full((self.block, 32, 32, 3), 10 * index, np.uint8)
        while self.mode == "endless":
            yield np.zeros((50, 32, 32, 3), np.uint8)

    def _wrong(self) -> Any:
        if self.mode == "raise":
            raise RuntimeError("out of ideas")
        if self.mode == "leave":
            raise SystemExit(3)
        if self.mode == "crash":
            os.abort()
        if self.mode == "hang":
            threading.Thread(target=time.sleep, args=(600,)).start()  # a thread that would keep a process from leaving
            time.sleep(600)
        wrong: Mapping[str, Any] = {
            "float": np.zeros((4, 32, 32, 3), np.float32),
            "gray": np.zeros((4, 32, 32), np.uint8),
            "list": [1, 2],
            "grow": np.zeros((4, 32, 34, 3), np.uint8),
            "none": None,
        }
        return wrong.get(self.mode, np.zeros((self.block, 32, 32, 3), np.uint8))


@dataclass(frozen=True)
class Staged(Odd):
    """Both of its halves take known times, and its blocks are two chunks long."""

    block_frames = (8,)

    def denoise_only(self, portrait: Frames, speech: Audio, *, prompt: str = "", seed: int = 0) -> Iterator[int]:
        return self._blocks(0.01)

    def decode_only(self, portrait: Frames, speech: Audio, *, prompt: str = "", seed: int = 0) -> Iterator[int]:
        return self._blocks(0.005)

    def _blocks(self, delay_s: float) -> Iterator[int]:
        for _ in range(10):
            time.sleep(delay_s)
            yield 8


@dataclass(frozen=True)
class Kept(Odd):
    """Says that it does not stream although it hands its frames over in pieces."""

    streams = False


@dataclass(frozen=True)
class Spawning(Odd):
    """Starts a process of its own, notes its number in a file, and hangs."""

    note: str = ""

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        child = subprocess.Popen(["sleep", "600"])
        Path(self.note).write_text(str(child.pid))
        yield from super().speak(speech, text=text)


class Broken:
    """Cannot be made."""

    def __init__(self, how: str = "raise") -> None:
        if how == "hang":
            time.sleep(600)
        raise RuntimeError("no such device")


@dataclass(frozen=True)
class Paced:
    """Yields a block when its audio is there, `work_s` later; one session after the other where `one_at_a_time`."""

    work_s: float = 0.02
    block: int = 5
    one_at_a_time: bool = False

    fps = 25.0
    sample_rate = 16_000
    _lock = threading.Lock()

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Paced]:
        yield self

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        heard = made = 0
        for chunk in speech:
            heard += len(chunk)
            while heard >= (made + self.block) * self.sample_rate / self.fps:
                if self.one_at_a_time:
                    with self._lock:
                        time.sleep(self.work_s)
                else:
                    time.sleep(self.work_s)
                made += self.block
                yield np.zeros((self.block, 16, 16, 3), np.uint8)


@dataclass(frozen=True)
class Somewhere(Odd):
    """Takes a device, and says nothing of it."""

    device: str = "cpu"
