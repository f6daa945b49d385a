"""The clock: what a chunk is, when it counts, and what the audio's pace does to it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from lt_eval.bench.timing import Feed, listen
from lt_eval.bench.viewing import first_frame_s, with_audio_s
from lt_eval.errors import UnscorableError
from lt_eval.testing import ToyGenerator, toy_portrait, toy_speech
from tests.bench.odd import Kept, Odd, Paced

PORTRAIT = toy_portrait(32)


def test_arrivals_hold_the_generators_own_times() -> None:
    """Five waits of 20 ms: each arrival is at least so late, and the sum is at least theirs."""
    timeline = listen(Odd(chunks=5, delay_s=0.02, at=-1), PORTRAIT, toy_speech(1.0))
    times = [arrival.at_s for arrival in timeline.arrivals]
    assert [arrival.frames for arrival in timeline.arrivals] == [4] * 5
    assert all(at >= 0.02 * (n + 1) for n, at in enumerate(times)) and times == sorted(times)
    assert 0 <= timeline.opened_s <= times[0] and timeline.ended_s >= times[-1]


@pytest.mark.parametrize("chunk_s", [None, 0.04, 0.3])
def test_a_generator_gets_the_same_audio_in_whatever_pieces(chunk_s: float | None) -> None:
    audio = toy_speech(1.0)
    feed = Feed(audio, 16_000, chunk_s)
    pieces = list(feed)
    assert np.array_equal(np.concatenate(pieces), audio)
    assert feed.heard_s == 1.0 and [pull.heard_s for pull in feed.pulls][-1] == 1.0
    assert len(pieces) == (1 if chunk_s is None else -(-len(audio) // round(chunk_s * 16_000)))


def test_what_a_streaming_generator_had_heard_at_its_first_frame_is_its_first_block() -> None:
    timeline = listen(ToyGenerator(block=5), PORTRAIT, toy_speech(1.0), chunk_s=0.04)
    assert timeline.arrivals[0].heard_s == pytest.approx(0.2)
    assert timeline.streams


def test_in_real_time_nothing_comes_before_it_is_said() -> None:
    timeline = listen(Paced(work_s=0.0), PORTRAIT, toy_speech(0.6), chunk_s=0.04, pace="realtime")
    assert len(timeline.arrivals) == 3
    assert all(pull.at_s >= pull.heard_s for pull in timeline.pulls)
    assert all(arrival.at_s >= 0.2 * (n + 1) for n, arrival in enumerate(timeline.arrivals))
    assert 0 <= first_frame_s(timeline) < with_audio_s(timeline)


def test_the_latency_computed_from_an_instant_run_is_what_real_time_gives() -> None:
    """20 ms of work after 0.2 s of audio, either way; the machine may only add to it."""
    speech = toy_speech(0.4)
    instant = listen(Paced(), PORTRAIT, speech, chunk_s=0.04)
    real = listen(Paced(), PORTRAIT, speech, chunk_s=0.04, pace="realtime")
    assert 0.22 <= with_audio_s(instant) < 2 and 0.22 <= with_audio_s(real) < 2


def test_a_paced_turn_can_be_stopped() -> None:
    """The generator waits for audio when the stop comes, and the wait ends."""
    stop = threading.Event()
    timer = threading.Timer(0.05, stop.set)
    begin = time.perf_counter()
    timeline = listen(
        Paced(),
        PORTRAIT,
        toy_speech(30.0),
        chunk_s=0.04,
        pace="realtime",
        stop=stop,
        keep=lambda _: None if timer.ident else timer.start(),
    )
    timer.join(10)
    assert time.perf_counter() - begin < 15 and 5 <= timeline.frames < 750


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("float", r"ndarray float32 \[4, 32, 32, 3\].*uint8 RGB"),
        ("gray", r"uint8 \[4, 32, 32\]"),
        ("list", r"list \[1, 2\]"),
        ("none", "NoneType None"),
        ("grow", r"change from \(32, 32\) to \(32, 34\)"),
        ("endless", "must end after its audio"),
    ],
)
def test_a_chunk_that_is_no_chunk_is_refused(mode: str, words: str) -> None:
    with pytest.raises(UnscorableError, match=words) as caught:
        listen(Odd(mode), PORTRAIT, toy_speech(0.2))
    assert caught.value.code == "generation_invalid"


def test_a_generator_without_a_frame_has_no_times() -> None:
    with pytest.raises(UnscorableError, match="no frame"):
        listen(Odd(chunks=0), PORTRAIT, toy_speech(0.2))


@pytest.mark.parametrize("generator", [Odd(chunks=1, at=-1), Kept(at=-1)])
def test_one_chunk_or_its_own_word_says_that_it_does_not_stream(generator: Odd) -> None:
    assert not listen(generator, PORTRAIT, toy_speech(0.2)).streams


def test_every_chunk_is_a_sign_of_life() -> None:
    told: list[str] = []
    listen(Odd(at=-1), PORTRAIT, toy_speech(0.2), tell=told.append)
    assert told.count("chunk") == 8
