from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lt_eval.errors import ConditionError, UsageError
from lt_eval.generator import sampler
from lt_eval.generator.codec import DecoderStream
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.generator.stream import Stream, block_generator, to_frames
from lt_eval.records import Audio, Frames
from lt_eval.registry import create
from lt_eval.testing import check_generator
from lt_eval.testing.fakes import toy_portrait, toy_speech

LONG_S = 30.0
NANO = ReferenceGenerator(preset="nano", device="cpu")
SPEECH = toy_speech(1.5)
"""37.5 frames' worth: shown as 38, made as 9 + 3 x 12 = 45."""


def chunks(speech: Audio, *sizes: int) -> Iterator[Audio]:
    place = turn = 0
    while place < len(speech):
        yield speech[place : place + sizes[turn % len(sizes)]]
        place, turn = place + sizes[turn % len(sizes)], turn + 1


def say(
    *turns: Audio, generator: ReferenceGenerator = NANO, seed: int = 0, prompt: str = "", portrait: int = 0
) -> list[Frames]:
    """Return the frames of each turn of one conversation."""
    with generator.session(toy_portrait(80, portrait), prompt=prompt, seed=seed) as session:
        return [np.concatenate(list(session.speak([speech]))) for speech in turns]


def own_threads() -> list[str]:
    """Threads of generators; that of a system which another test let hang is not among them."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("lt-eval") and name != "lt-eval-system"]


def test_it_keeps_the_contract_of_generators() -> None:
    streaming = check_generator(partial(ReferenceGenerator, preset="nano", device="cpu"))
    assert streaming.streams
    assert streaming.video_s == pytest.approx(streaming.audio_s, abs=0.02)


def test_it_is_registered() -> None:
    made = create("generators", "reference", {"preset": "nano", "steps": 2}, offered={"device": "cpu"})
    assert isinstance(made, ReferenceGenerator) and made.settings.stream.steps == 2 and made.device == "cpu"


def test_a_turn_shows_the_rounded_number_of_frames_of_its_audio() -> None:
    (frames,) = say(SPEECH)
    assert frames.shape == (38, 64, 64, 3) and frames.dtype == np.uint8
    assert [len(turn) for turn in say(SPEECH[:1], SPEECH[: 640 * 9], SPEECH[: 640 * 21 + 100])] == [1, 9, 21]


def test_the_same_seed_gives_the_same_bytes() -> None:
    (once,), (again,) = say(SPEECH), say(SPEECH, generator=replace(NANO))
    assert np.array_equal(once, again)


@pytest.mark.parametrize("other", ["seed", "speech", "prompt", "portrait", "weights"])
def test_everything_that_goes_in_is_seen_in_what_comes_out(other: str) -> None:
    (frames,) = say(SPEECH)
    (changed,) = {
        "seed": partial(say, SPEECH, seed=1),
        "speech": partial(say, -0.5 * SPEECH[::-1].copy()),
        "prompt": partial(say, SPEECH, prompt="She smiles and nods."),
        "portrait": partial(say, SPEECH, portrait=1),
        "weights": partial(say, SPEECH, generator=replace(NANO, weights_seed=1)),
    }[other]()
    assert not np.array_equal(frames, changed)


def test_every_block_of_every_seed_draws_noise_of_its_own() -> None:
    drawn = [
        tuple(torch.randn(4, generator=block_generator(seed, block)).tolist()) for seed in (0, 1) for block in (0, 1)
    ]
    assert len(set(drawn)) == 4
    assert drawn[3] == tuple(torch.randn(4, generator=block_generator(1, 1)).tolist())


@pytest.mark.parametrize("sizes", [(640,), (1, 5_000, 33), (160,)])
def test_frames_do_not_depend_on_how_the_audio_is_cut(sizes: tuple[int, ...]) -> None:
    (whole,) = say(SPEECH)
    with NANO.session(toy_portrait(80)) as session:
        frames = np.concatenate(list(session.speak(chunks(SPEECH, *sizes))))
    assert np.array_equal(frames, whole)


def test_frames_do_not_depend_on_the_threads_of_the_process() -> None:
    before, (frames,) = torch.get_num_threads(), say(SPEECH)
    try:
        torch.set_num_threads(3 - min(before, 2))
        (again,) = say(SPEECH)
        assert torch.get_num_threads() == 3 - min(before, 2)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(frames, again)


def test_what_threads_to_come_use_is_left_as_it_was() -> None:
    found: list[int] = []
    say(SPEECH)
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [torch.get_num_threads()]


def test_two_sessions_interleaved_give_the_bytes_of_each_alone() -> None:
    (alone, _), (other, _) = say(SPEECH, SPEECH, seed=1), say(SPEECH, SPEECH, seed=2, portrait=1)
    with NANO.session(toy_portrait(80), seed=1) as one, NANO.session(toy_portrait(80, 1), seed=2) as two:
        turns = one.speak(chunks(SPEECH, 1_000)), two.speak(chunks(SPEECH, 700))
        found: list[list[Frames]] = [[], []]
        going = {0, 1}
        while going:
            for index in list(going):
                if (frames := next(turns[index], None)) is None:
                    going.remove(index)
                else:
                    found[index].append(frames)
    assert np.array_equal(np.concatenate(found[0]), alone)
    assert np.array_equal(np.concatenate(found[1]), other)


def test_sessions_of_several_threads_give_the_bytes_of_each_alone() -> None:
    alone = [say(SPEECH, seed=seed)[0] for seed in range(4)]
    fresh, found = replace(NANO), {}

    def talk(seed: int) -> None:
        found[seed] = say(SPEECH, seed=seed, generator=fresh)[0]

    threads = [threading.Thread(target=talk, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert all(np.array_equal(found[seed], alone[seed]) for seed in range(4))


@pytest.mark.parametrize("look_ahead", [0, 4])
def test_frames_depend_on_no_audio_after_their_block_and_the_look_ahead(look_ahead: int) -> None:
    generator = replace(NANO, look_ahead=look_ahead)
    other = SPEECH.copy()
    other[(21 + look_ahead) * 640 :] *= -0.7
    (frames,), (changed,) = say(SPEECH, generator=generator), say(other, generator=generator)
    assert np.array_equal(frames[:21], changed[:21])
    assert not np.array_equal(frames[21:], changed[21:])


def test_streamed_latents_and_frames_are_those_of_one_piece_after_the_other() -> None:
    networks = NANO.networks()
    stream = Stream(networks, toy_portrait(80), "", 0)
    stream.audio.push(SPEECH)
    stream.audio.align(4)
    latents = []
    for _ in range(4):
        block, clean_pass = stream.denoise()
        clean_pass()
        latents.append(block)
    with torch.inference_mode():
        whole = to_frames(networks.codec.decode(torch.cat(latents, dim=2))).numpy()
    (streamed,) = say(SPEECH)
    assert np.abs(streamed.astype(int) - whole[:38].astype(int)).max() <= 1  # convolutions round by the piece


def test_a_second_turn_goes_on_from_the_first() -> None:
    blocks = toy_speech(2.0)[: 640 * 33]
    first, second = say(blocks[: 640 * 21], blocks[640 * 21 :])
    (whole,) = say(blocks)
    joined = np.concatenate([first, second]).astype(int)
    assert np.abs(joined - whole.astype(int)).max() <= 1  # a turn's first block is decoded in other pieces
    (fresh,) = say(blocks[640 * 21 :])
    assert not np.array_equal(fresh, second)


def test_latent_frame_0_is_the_portrait() -> None:
    networks = NANO.networks()
    with torch.inference_mode():
        portrait = torch.from_numpy(np.array(toy_portrait(64)))
        video = portrait.permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
        coded = to_frames(networks.codec.decode(networks.codec.encode(video))).numpy()
    (square,) = say_portrait(toy_portrait(64))
    assert np.abs(square[0].astype(int) - coded[0].astype(int)).max() <= 1


def say_portrait(portrait: Frames) -> list[Frames]:
    with NANO.session(portrait) as session:
        return [np.concatenate(list(session.speak([SPEECH])))]


class Held:
    """Speech that comes in two parts, the second when it is let go."""

    def __init__(self, first: int) -> None:
        self.go = threading.Event()
        self._first = first

    def __iter__(self) -> Iterator[Audio]:
        yield SPEECH[: self._first]
        self.go.wait(LONG_S)
        yield SPEECH[self._first :]


class Stuck:
    """Speech that answers nothing more from a stated moment on: when it is asked for its iterator, or when it ends."""

    def __init__(self, at: str) -> None:
        self.go, self.asked, self._at = threading.Event(), threading.Event(), at

    def _wait(self) -> None:
        self.asked.set()
        self.go.wait(LONG_S)

    def __iter__(self) -> Iterator[Audio]:
        if self._at == "iter":
            self._wait()
        return self._chunks()

    def _chunks(self) -> Iterator[Audio]:
        try:
            while True:
                yield SPEECH
        finally:
            if self._at == "close":
                self._wait()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", ["iter", "close"])
def test_speech_that_does_not_answer_holds_nobody_up(at: str, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_eval.generator.lanes import Lane, Lanes
    from lt_eval.generator.turn import Turn

    networks, speech = NANO.networks(), Stuck(at)
    turn = Turn(
        Stream(networks, toy_portrait(80), "", 0), speech, Lanes(Lane(networks.device, 1), Lane(networks.device, 1))
    )
    if late:  # the reader asks its source for an end only after the other threads have ended
        close_way = turn._audio.close

        def close_late() -> None:
            close_way()
            if threading.current_thread() is turn._reader:
                for worker in turn._workers:
                    worker.join()
                time.sleep(0.3)

        monkeypatch.setattr(turn._audio, "close", close_late)
    if at == "iter":
        assert speech.asked.wait(LONG_S)
    else:
        next(iter(turn))
    closer = threading.Thread(target=turn.close)
    closer.start()
    closer.join(LONG_S / 2)
    ended = not closer.is_alive()
    speech.go.set()
    closer.join(LONG_S)
    assert ended


@pytest.mark.parametrize("look_ahead", [0, 4])
def test_a_block_comes_as_soon_as_its_audio_and_its_look_ahead_are_there(look_ahead: int) -> None:
    generator = replace(NANO, look_ahead=look_ahead)
    held = Held((9 + look_ahead) * 640)
    with generator.session(toy_portrait(80)) as session:
        turn, frames = session.speak(held), 0
        while frames < 9:
            frames += len(next(turn))
        assert frames == 9 and not held.go.is_set()
        held.go.set()
        assert frames + sum(map(len, turn)) == 38


def test_the_first_frame_leaves_alone_and_before_the_clean_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, clean_pass = threading.Event(), sampler.clean_pass

    def waits(*args: object, **kwargs: object) -> None:
        assert seen.wait(LONG_S)
        clean_pass(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(sampler, "clean_pass", waits)
    with NANO.session(toy_portrait(80)) as session:
        turn = session.speak([SPEECH])
        assert len(next(turn)) == 1
        seen.set()
        assert sum(map(len, turn)) == 37


def test_a_viewer_who_does_not_look_stops_the_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def endless() -> Iterator[Audio]:
        nonlocal taken
        while True:
            taken += 1
            yield SPEECH[:640]

    with NANO.session(toy_portrait(80)) as session:
        turn = session.speak(endless())
        next(turn)
        time.sleep(0.5)
        before = taken
        time.sleep(0.3)
        assert taken == before <= 12 * 8  # at most eight blocks lie between speech and viewer
        for _ in range(12):
            next(turn)
        assert taken > before


@pytest.mark.parametrize("looked", [1, 3, 5])
def test_a_turn_that_is_left_ends_its_threads_and_the_next_one_goes_on(looked: int) -> None:
    with NANO.session(toy_portrait(80)) as session:
        turn = session.speak(chunks(toy_speech(20.0), 640))
        for _ in range(looked):
            next(turn)
        turn.close()  # type: ignore[attr-defined]
        assert not own_threads()
        frames = np.concatenate(list(session.speak([SPEECH])))
        assert len(frames) == 38
        (fresh,) = say(SPEECH)
        assert not np.array_equal(frames, fresh)
    assert not own_threads()


def test_the_next_turn_interrupts_the_one_before() -> None:
    with NANO.session(toy_portrait(80)) as session:
        first = session.speak(chunks(toy_speech(20.0), 640))
        next(first)
        second = list(session.speak([SPEECH]))
        assert sum(map(len, second)) == 38
        assert sum(map(len, first)) < 100  # what was made already, and no error
        assert sum(map(len, session.speak([SPEECH]))) == 38


def test_closing_does_not_wait_for_a_source_that_does_not_answer() -> None:
    held = Held(9 * 640)
    with NANO.session(toy_portrait(80)) as session:
        next(session.speak(held))
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 10
    assert [name for name in own_threads() if "read" not in name] == []
    held.go.set()


def test_a_source_is_closed_when_its_turn_is_left() -> None:
    closed = threading.Event()

    def source() -> Iterator[Audio]:
        try:
            while True:
                yield SPEECH[:640]
        finally:
            closed.set()

    with NANO.session(toy_portrait(80)) as session:
        next(session.speak(source()))
    assert closed.wait(LONG_S)


@pytest.mark.parametrize(
    ("portrait", "message"),
    [
        (np.zeros((64, 64), np.uint8), r"uint8 \[64, 64\]. It must be one picture, uint8 RGB"),
        (np.zeros((64, 64, 4), np.uint8), r"\[64, 64, 4\]"),
        (np.zeros((64, 64, 3), np.float32), "float32"),
        (np.zeros((0, 64, 3), np.uint8), "64x0. Each side"),
        (np.zeros((8, 64, 3), np.uint8), "64x8. Each side must be 16 or more"),
        ("anna.png", "It must be one picture"),
    ],
)
def test_a_portrait_that_is_no_picture_is_refused(portrait: Frames, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        NANO.session(portrait)


@pytest.mark.parametrize("shape", [(300, 64, 3), (17, 301, 3), (512, 512, 3)])
def test_portraits_of_any_shape_are_cropped_to_the_square(shape: tuple[int, int, int]) -> None:
    with NANO.session(np.full(shape, 90, np.uint8)) as session:
        assert next(session.speak([SPEECH])).shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("speech", "message"),
    [
        ([], "no sample"),
        ([SPEECH[:0], SPEECH[:0]], "no sample"),
        ([SPEECH, np.full(5, np.nan, np.float32)], "nan"),
        ([np.zeros((2, 640), np.float32)], "mono"),
        ([np.zeros(640, np.int16)], "32768"),
        (SPEECH, r"in chunks, such as \[audio\]"),
    ],
)
def test_audio_that_is_none_is_refused_and_the_session_goes_on(speech: list[Audio], message: str) -> None:
    with NANO.session(toy_portrait(80)) as session:
        with pytest.raises(ConditionError, match=message):
            list(session.speak(speech))
        assert not own_threads()
        assert sum(map(len, session.speak([SPEECH]))) == 38


def test_silence_is_audio() -> None:
    (frames,) = say(np.zeros(16_000, np.float32))
    assert len(frames) == 25


def test_an_error_of_the_source_reaches_the_viewer_and_the_session_goes_on() -> None:
    def source() -> Iterator[Audio]:
        yield SPEECH
        raise ConnectionError("the line is dead")

    with NANO.session(toy_portrait(80)) as session:
        with pytest.raises(ConnectionError, match="the line is dead"):
            list(session.speak(source()))
        assert sum(map(len, session.speak([SPEECH]))) == 38


@pytest.mark.parametrize("where", ["denoise_block", "clean_pass", "push"])
def test_an_error_within_reaches_the_viewer_and_ends_the_session(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise ArithmeticError(f"in {where}")

    monkeypatch.setattr(DecoderStream if where == "push" else sampler, where, fails)
    with NANO.session(toy_portrait(80)) as session:
        with pytest.raises(ArithmeticError, match=where):
            list(session.speak(chunks(SPEECH, 640)))
        monkeypatch.undo()
        assert not own_threads()
        with pytest.raises(UsageError, match="closed"):
            list(session.speak([SPEECH]))


def test_a_closed_session_says_so() -> None:
    with NANO.session(toy_portrait(80)) as session:
        pass
    with pytest.raises(UsageError, match=r"this session is closed\. Open another one"):
        next(session.speak([SPEECH]))
