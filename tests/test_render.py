"""A generator is timed while it works and only then, and its clip carries the driving audio."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_eval.bench.host import Host
from lt_eval.errors import DatasetError
from lt_eval.interfaces import Session
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import read_audio
from lt_eval.records import Audio, Dialogue, Frames, MediaPolicy, Turn
from lt_eval.render import Shelf, load_conditions, render_clip, render_in, render_key, render_row
from lt_eval.testing import ToyGenerator
from tests.clips import moving_frames, tone, write_wav


@pytest.fixture
def dialogue(tmp_path: Path) -> Dialogue:
    import cv2

    cv2.imwrite(str(tmp_path / "face.png"), moving_frames(3, 1)[0])
    speech = write_wav(tmp_path / "speech.wav", tone(0, 1.0))
    return Dialogue("a", (Turn(speech=speech),), portrait=tmp_path / "face.png", prompt="talk")


class PerPiece:
    """Makes one frame of every piece of sound that it is handed."""

    fps = 25.0
    sample_rate = 16_000

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Session]:
        yield self

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for _ in speech:
            yield np.zeros((1, 32, 32, 3), np.uint8)


def test_a_generator_is_handed_its_sound_in_pieces_of_a_frame(dialogue: Dialogue, tmp_path: Path) -> None:
    row = render_row(PerPiece(), "g", "d", "m", dialogue, tmp_path / "clip.mp4", seed=0)
    assert row.details["frames"] == 25 and row.details["streams"] is True


def test_a_clip_is_another_when_anything_that_it_was_made_from_is(dialogue: Dialogue, tmp_path: Path) -> None:
    other = write_wav(tmp_path / "other.wav", tone(0, 0.5))
    (turn,) = dialogue.turns
    keys = [
        render_key("g", "m", dialogue, 0),
        render_key("h", "m", dialogue, 0),
        render_key("g", "n", dialogue, 0),
        render_key("g", "m", dialogue, 1),
        *(
            render_key("g", "m", replace(dialogue, **change), 0)
            for change in (
                {"id": "b"},
                {"prompt": "sing"},
                {"portrait": None},
                {"turns": (replace(turn, text="Hello."),)},
                {"turns": (replace(turn, speech=other),)},
            )
        ),
    ]
    assert len(set(keys)) == len(keys) and render_key("g", "m", replace(dialogue), 0) == keys[0]


class Stub:
    """A generator that does what a test tells it to."""

    fps = 25.0
    sample_rate = 16_000

    def __init__(self, chunks: list[int], delay_s: float = 0.0, fails: bool = False) -> None:
        self.chunks, self.delay_s, self.fails = chunks, delay_s, fails
        self.closed = False

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Session]:
        try:
            yield self
        finally:
            self.closed = True

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for count in self.chunks:
            time.sleep(self.delay_s)
            if self.fails:
                raise RuntimeError("out of ideas")
            yield np.zeros((count, 32, 32, 3), np.uint8)


def test_a_clip_holds_the_frames_and_the_driving_audio(dialogue: Dialogue, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    rendered = render_clip(ToyGenerator(), dialogue, out)
    with MediaClip(out, MediaPolicy()) as clip:
        assert len(clip.frames) == rendered.frames == 25
        speech = read_audio(dialogue.turns[0].speech or "")
        length = min(len(speech), len(clip.audio))
        assert np.corrcoef(clip.audio[:length], speech[:length])[0, 1] > 0.95


def test_time_spent_by_the_reader_of_chunks_does_not_count(dialogue: Dialogue, tmp_path: Path) -> None:
    """Ten waits of 20 ms are 0.2 s whatever encoding costs: the arrivals are the generator's own."""
    rendered = render_clip(Stub([3] * 10, delay_s=0.02), dialogue, tmp_path / "out.mp4")
    times = [seconds for seconds, _ in rendered.arrivals]
    assert times == sorted(times) and len(times) == 10
    assert rendered.first_frame_s == times[0] >= 0.02 and times[-1] >= 0.2
    assert rendered.throughput_fps == pytest.approx(30 / times[-1])


@pytest.mark.parametrize(("stub", "words"), [(Stub([], 0), "no frame"), (Stub([3], 0, fails=True), "out of ideas")])
def test_a_failed_generation_is_a_row_and_leaves_no_file(
    dialogue: Dialogue, tmp_path: Path, stub: Stub, words: str
) -> None:
    out = tmp_path / "out.mp4"
    row = render_row(stub, "f", "set", "ours", dialogue, out, seed=0)
    assert row.failure is not None and row.failure.reason == "generation_failed" and words in row.failure.message
    assert not out.exists() and stub.closed


def test_an_item_without_portrait_or_speech_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no portrait"):
        render_row(Stub([1]), "f", "set", "ours", Dialogue("a", (Turn(),)), tmp_path / "out.mp4", seed=0)


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_audio_reaches_the_generator_at_the_rate_it_wants(dialogue: Dialogue, rate: int) -> None:
    _, audio = load_conditions(dialogue, rate)
    assert abs(len(audio) - rate) <= 2
    spectrum = np.abs(np.fft.rfft(audio))
    assert np.argmax(spectrum) * rate / len(audio) == pytest.approx(200, abs=2)


@pytest.mark.parametrize(
    ("mode", "reason", "words"),
    [
        ("raise", "generation_failed", "RuntimeError: out of ideas"),
        ("leave", "generation_failed", "SystemExit: 3"),
        ("float", "generation_invalid", "a: the generator yielded ndarray float32"),
        ("grow", "generation_invalid", "change from (32, 32) to (32, 34)"),
        ("none", "generation_invalid", "NoneType"),
        ("endless", "generation_invalid", "must end after its audio"),
        ("crash", "generation_failed", "SIGABRT while it was generating a"),
        ("hang", "generation_timeout", "no sign of life for 6 s while it was generating a"),
    ],
)
def test_whatever_a_generator_does_in_mid_clip_is_a_row_with_its_reason(
    dialogue: Dialogue, tmp_path: Path, mode: str, reason: str, words: str
) -> None:
    """And the next clip is rendered by the same host."""
    out = tmp_path / "clips" / "a.mp4"
    options = {"mode": mode, "once": str(tmp_path / "happened")}
    with Host("tests.bench.odd:Odd", options, {}, timeout_s=6.0) as host:
        row = render_in(host, "f", "set", "ours", dialogue, out, seed=0)
        assert row.failure is not None and row.failure.reason == reason and words in row.failure.message
        assert row.key == render_key("f", "ours", dialogue, 0) and row.clip == "" and not row.values
        assert not out.exists() and list(tmp_path.glob("clips/.*")) == []
        if mode != "endless":
            again = render_in(host, "f", "set", "ours", dialogue, out, seed=0)
            assert again.failure is None and again.values["Throughput"] > 0 and out.is_file()


class Busy(Stub):
    """A generator that works on a thread of its own while its frames are being looked at."""

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        buffer = np.zeros((3, 32, 32, 3), np.uint8)
        for value in range(6):
            time.sleep(self.delay_s)
            buffer[:] = 40 * value
            yield buffer


def test_a_generator_may_use_its_buffer_again(dialogue: Dialogue, tmp_path: Path) -> None:
    render_clip(Busy([]), dialogue, tmp_path / "out.mp4")
    with MediaClip(tmp_path / "out.mp4", MediaPolicy()) as clip:
        assert clip.frames.mean(axis=(1, 2, 3)) == pytest.approx(np.repeat(40 * np.arange(6), 3), abs=3)


@pytest.mark.parametrize("limit", [0, 1, 10_000, 10**9])
def test_a_shelf_gives_back_what_was_put_on_it_in_memory_or_not(limit: int) -> None:
    chunks = [np.full((n, 16, 18, 3), n, np.uint8) for n in (3, 1, 5, 2)]
    with Shelf(limit) as shelf:
        for chunk in chunks:
            shelf.put(chunk)
        assert all(np.array_equal(a, b) for a, b in zip(shelf, chunks, strict=True))
