from __future__ import annotations

import gc
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.records import Audio
from lt_eval.testing.fakes import toy_portrait, toy_speech

SMALL = ReferenceGenerator(preset="nano", size=32, steps=1, device="cpu")
"""One token a latent frame: what is left is everything but arithmetic."""

pytestmark = pytest.mark.slow


def resident_kb() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


@pytest.fixture(autouse=True)
def _has_proc() -> None:
    if not Path("/proc/self/statm").is_file():
        pytest.skip("memory is read from /proc")


def test_a_thousand_sessions_leave_no_thread_and_no_memory_behind() -> None:
    portrait, speech = toy_portrait(32), toy_speech(0.5)

    def talk(count: int) -> None:
        for number in range(count):
            with SMALL.session(portrait, seed=number) as session:
                turn = session.speak([speech])
                next(turn)
                if number % 2:  # every other one is left in mid-turn
                    assert sum(map(len, turn)) == 12

    talk(100)
    threads, before = threading.active_count(), resident_kb()
    talk(900)
    assert threading.active_count() <= threads
    assert resident_kb() - before < 4_000  # 4 kB a session would show


def test_half_an_hour_in_one_turn_neither_fails_nor_grows() -> None:
    seconds, chunk = 1_800, toy_speech(4.8)

    def speech() -> Iterator[Audio]:
        for _ in range(round(seconds / 4.8)):
            yield chunk

    with SMALL.session(toy_portrait(32)) as session:
        shown, early = 0, 0
        for frames in session.speak(speech()):
            shown += len(frames)
            assert frames.dtype == np.uint8
            if not early and shown > 2_000:
                early = resident_kb()
        late = resident_kb()
    assert shown == seconds * 25
    assert late - early < 4_000
