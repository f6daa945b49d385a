"""The fakes behave as said, and each check finds the clause that a broken plugin breaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from lt_eval.errors import NoAudioError, UnscorableError
from lt_eval.interfaces import Clip, Influence
from lt_eval.records import Audio, Column, Dialogue, Features, Frames, Sample, Score, Turn
from lt_eval.testing import (
    ArrayClip,
    ConformanceError,
    ToyGenerator,
    check_clip_metric,
    check_dataset,
    check_generator,
    check_set_metric,
    toy_clip,
    toy_portrait,
    toy_speech,
)

# Fakes.


def spoken(generator: ToyGenerator, *turns: Audio, chunk: int = 1600, seed: int = 0) -> list[Frames]:
    """Return all frames of each turn of one session."""
    with generator.session(toy_portrait(64), seed=seed) as session:
        return [
            np.concatenate(list(session.speak(turn[start : start + chunk] for start in range(0, len(turn), chunk))))
            for turn in turns
        ]


def test_a_clip_in_memory_holds_what_it_was_given_and_cannot_be_written_to() -> None:
    frames, audio = np.zeros((2, 4, 6, 3), np.uint8), np.zeros(1280, np.float32)
    clip = ArrayClip(frames, audio, fps=30.0, path=Path("a.mp4"))
    assert np.shares_memory(clip.frames, frames)
    assert np.shares_memory(clip.audio, audio)
    assert (clip.fps, clip.path) == (30.0, Path("a.mp4"))
    with pytest.raises(ValueError, match="read-only"):
        clip.frames[0] = 1
    frames[0] = 1


def test_a_clip_without_audio_says_so() -> None:
    with pytest.raises(NoAudioError):
        ArrayClip(np.zeros((1, 4, 4, 3), np.uint8)).audio  # noqa: B018


@pytest.mark.parametrize("chunk", [1, 100, 640, 16_000, 10**6])
def test_toy_frames_do_not_depend_on_how_the_audio_arrives(chunk: int) -> None:
    speech = toy_speech(0.5)
    assert np.array_equal(spoken(ToyGenerator(), speech, chunk=chunk)[0], spoken(ToyGenerator(), speech)[0])


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (640, 1), (641, 2), (16_000, 25)])
def test_toy_frames_cover_the_audio(samples: int, frames: int) -> None:
    with ToyGenerator().session(toy_portrait(32)) as session:
        assert sum(len(block) for block in session.speak([np.zeros(samples, np.float32)])) == frames


def test_a_toy_mouth_opens_as_far_as_the_audio_is_loud() -> None:
    portrait = toy_portrait(64)
    changed = []
    for loudness in (0.0, 0.1, 0.2, 0.4):
        (frames,) = spoken(ToyGenerator(), np.full(640, loudness, np.float32))
        changed.append(int((frames != portrait).any(axis=-1).sum()))
    assert changed == sorted(set(changed))


def test_a_toy_session_remembers_its_turns_and_another_does_not() -> None:
    speech = toy_speech(0.4)
    first, second = spoken(ToyGenerator(), speech, speech)
    assert not np.array_equal(first, second)
    assert np.array_equal(spoken(ToyGenerator(), speech)[0], first)


def test_toy_seeds_differ() -> None:
    speech = toy_speech(0.4)
    assert not np.array_equal(spoken(ToyGenerator(), speech, seed=1)[0], spoken(ToyGenerator(), speech, seed=2)[0])


def test_the_toy_generator_conforms_and_streams() -> None:
    streaming = check_generator(ToyGenerator)
    assert streaming.streams
    assert streaming.first_frame_after_s == pytest.approx(0.2)
    assert streaming.video_s == streaming.audio_s == 2.0


# Clip metrics.


@dataclass(frozen=True)
class Brightness:
    columns = {"Brightness": Column("neither")}

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Return the mean level."""
        return {"Brightness": float(sample.clip.frames.mean())}


@dataclass(frozen=True)
class Detailed(Brightness):
    def score(self, sample: Sample) -> Score:  # type: ignore[override]
        return Score({"Brightness": 1.0}, {"frames": len(sample.clip.frames)})


@dataclass(frozen=True)
class DetailsOfAnArray(Brightness):
    def score(self, sample: Sample) -> Score:  # type: ignore[override]
        return Score({"Brightness": 1.0}, {"frames": sample.clip.frames})


class NoColumns(Brightness):
    columns: dict[str, Column] = {}


class TextColumn(Brightness):
    columns = cast("dict[str, Column]", {"Brightness": "higher"})


class Missing(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        return {}


class NotFinite(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        return {"Brightness": float("nan")}


class ArrayScalar(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        return {"Brightness": cast("float", np.float32(1.0))}


class Raises(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        raise KeyError("mouth")


class NeverScores(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        raise UnscorableError("no_face", "There is no face.")


class Remembers(Brightness):
    calls = count()

    def score(self, sample: Sample) -> Mapping[str, float]:
        return {"Brightness": float(next(self.calls))}


class NeedsTwoFrames(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        with np.errstate(all="ignore"):
            moved = np.float64(len(sample.clip.frames)) / np.float64(len(sample.clip.frames) - 1)
        return {"Brightness": float(moved)}


class WritesFrames(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        sample.clip.frames[0] = 0
        return super().score(sample)


class WritesBehindOurBack(Brightness):
    def score(self, sample: Sample) -> Mapping[str, float]:
        base = sample.clip.frames.base
        assert base is not None
        base[...] = 0
        return {"Brightness": 0.0}


class Unpicklable(Brightness):
    def __init__(self) -> None:
        object.__setattr__(self, "model", lambda: None)


class NewFingerprint(Brightness):
    made = count()

    def __init__(self) -> None:
        object.__setattr__(self, "fingerprint", f"version {next(self.made)}")


class OneFootnote(Brightness):
    footnotes = "computed on a Monday"


def test_a_good_clip_metric_passes() -> None:
    check_clip_metric(Brightness)
    check_clip_metric(Brightness, [toy_clip(0.5, 32)])
    check_clip_metric(Detailed)


@pytest.mark.parametrize(
    ("factory", "clause"),
    [
        (NoColumns, "at least one column"),
        (TextColumn, "a column is an lt_eval.records.Column"),
        (Missing, r"exactly the columns \['Brightness'\]. Seen: \[\]"),
        (NotFinite, "raise UnscorableError. Seen: Brightness: nan"),
        (ArrayScalar, r"use float\(x\). Seen: Brightness: float32"),
        (DetailsOfAnArray, "details .* are JSON types.*ndarray is not JSON serializable"),
        (Raises, "raises a SampleError. Seen: KeyError: 'mouth'"),
        (NeverScores, r"pass `clips` that it can\). Seen: UnscorableError: There is no face"),
        (Remembers, "score depends on its sample alone"),
        (NeedsTwoFrames, r"score\(one_frame.mp4\) is finite"),
        (WritesFrames, "ValueError: assignment destination is read-only"),
        (WritesBehindOurBack, "leaves frames and audio as they are"),
        (Unpicklable, "can be pickled"),
        (NewFingerprint, "fingerprint is the same for the same options"),
        (OneFootnote, "footnotes is a sequence of strings"),
        (partial(Brightness, 3), "the factory makes a metric with no arguments"),  # type: ignore[call-arg]
    ],
)
def test_a_broken_clip_metric_is_told_which_clause(factory: Any, clause: str) -> None:
    name = getattr(factory, "func", factory).__name__
    with pytest.raises(ConformanceError, match=rf"ClipMetric {name} breaks its contract: .*{clause}"):
        check_clip_metric(factory)


# Set metrics.


@dataclass(frozen=True)
class MeanShift:
    columns = {"Shift": Column("lower")}

    def features(self, clip: Clip) -> Features:
        """Return the mean level of each frame."""
        return np.asarray(clip.frames.mean(axis=(1, 2)), np.float32)

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        """Return how far the means lie apart."""
        shift = np.concatenate(list(generated)).mean() - np.concatenate(list(reference)).mean()
        return {"Shift": float(abs(shift))}


class DoubleFeatures(MeanShift):
    def features(self, clip: Clip) -> Features:
        return cast("Features", super().features(clip).astype(np.float64))


class FlatFeatures(MeanShift):
    def features(self, clip: Clip) -> Features:
        return super().features(clip).ravel()


class SizedByClip(MeanShift):
    sizes = count(1)

    def features(self, clip: Clip) -> Features:
        return np.ones((2, next(self.sizes)), np.float32)


class Draws(MeanShift):
    draws = np.random.default_rng(0)

    def features(self, clip: Clip) -> Features:
        return self.draws.standard_normal((4, 3), dtype=np.float32)


class DividesByItself(MeanShift):
    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        shift = super().distance(generated, reference)["Shift"]
        return {"Shift": 1.0 / shift if shift else float("inf")}


class CentresInPlace(MeanShift):
    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        before = super().distance(generated, reference)
        for one in generated:
            one -= one.mean(axis=0)
        return before


class SkewInfluence(MeanShift):
    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        return {"Shift": Influence(np.ones(len(generated)), np.zeros(len(reference)))}


class ShortInfluence(MeanShift):
    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        return {"Shift": Influence(np.zeros(1), np.zeros(1))}


class FloorOfAnother(MeanShift):
    def floor(self, reference: Sequence[Features], clips: int) -> Mapping[str, float]:
        return {"Distance": 0.0}


class InfluenceOnAnother(MeanShift):
    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        return {"Distance": Influence(np.zeros(len(generated)), np.zeros(len(reference)))}


class NoFloor(MeanShift):
    def floor(self, reference: Sequence[Features], clips: int) -> Mapping[str, float]:
        return {"Shift": float("nan")}


def test_a_good_set_metric_passes() -> None:
    check_set_metric(MeanShift)
    check_set_metric(MeanShift, [toy_clip(0.2, 32)], [toy_clip(0.2, 32, seed=1), toy_clip(0.4, 32, seed=2)])


@pytest.mark.parametrize(
    ("factory", "clause"),
    [
        (DoubleFeatures, r"is float32 \[N, D\].*Seen: float64 \[50, 3\]"),
        (FlatFeatures, r"is float32 \[N, D\].*Seen: float32 \[150\]"),
        (SizedByClip, "one width D"),
        (Draws, "features depend on the clip alone"),
        (DividesByItself, r"distance\(x, x\) is finite"),
        (CentresInPlace, "does not change the features"),
        (SkewInfluence, "influence of Shift on the generated side sums to zero"),
        (ShortInfluence, "has a value a clip"),
        (NoFloor, "floor is finite"),
        (FloorOfAnother, r"floor has no columns but \['Shift'\]. Seen: \['Distance'\]"),
        (InfluenceOnAnother, r"influence has no columns but \['Shift'\]. Seen: \['Distance'\]"),
    ],
)
def test_a_broken_set_metric_is_told_which_clause(factory: Any, clause: str) -> None:
    with pytest.raises(ConformanceError, match=f"SetMetric {factory.__name__} breaks its contract: .*{clause}"):
        check_set_metric(factory)


# Data sets.


@dataclass(frozen=True)
class Listed:
    items: tuple[object, ...]
    version: str = "1"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> Dialogue:
        return cast("Dialogue", self.items[index])


class Endless(Listed):
    def __getitem__(self, index: int, /) -> Dialogue:
        return super().__getitem__(index % len(self))


class Dictionary(Listed):
    def __getitem__(self, index: int, /) -> Dialogue:
        return dict(enumerate(cast("tuple[Dialogue, ...]", self.items)))[index]


@dataclass(frozen=True)
class WithMethods(Listed):
    methods = {"blur": Path("no-such-folder")}


ANN, BEN = Dialogue("ann", (Turn(),)), Dialogue("ben", (Turn(), Turn()))


def test_a_good_dataset_passes() -> None:
    check_dataset(Listed((ANN, BEN)))


@pytest.mark.parametrize(
    ("dataset", "clause"),
    [
        (Listed((ANN,), version=""), "version is a non-empty string"),
        (Listed(()), "at least one dialogue"),
        (Listed((ANN, ANN)), r"an id of its own. Seen: \['ann'\] more than once"),
        (Listed(("ann",)), "item 0 is an lt_eval.records.Dialogue. Seen: str"),
        (Listed((Dialogue("", (Turn(),)),)), "item 0 has an id"),
        (Listed((Dialogue("ann", ()),)), "'ann' has at least one turn"),
        (Listed((Dialogue("ann", (Turn(speech=Path("no.wav")),)),)), "the speech of turn 0 of 'ann' is the Path of a"),
        (Listed((Dialogue("ann", (Turn(),), portrait=cast("Path", __file__)),)), "the portrait of 'ann' is the Path"),
        (Endless((ANN, BEN)), "out of range raises IndexError. Seen: Dialogue"),
        (Dictionary((ANN, BEN)), "out of range raises IndexError. Seen: KeyError: 2"),
        (WithMethods((ANN,)), "every method it brings is a folder"),
    ],
)
def test_a_broken_dataset_is_told_which_clause(dataset: Listed, clause: str) -> None:
    with pytest.raises(ConformanceError, match=f"Dataset {type(dataset).__name__} breaks its contract: .*{clause}"):
        check_dataset(dataset)


# Generators.


@dataclass(frozen=True)
class Still:
    """Shows the portrait once for each tenth of a second."""

    fps: float = 10.0
    sample_rate: int = 16_000

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Still]:
        self_with_portrait = type(self)()
        object.__setattr__(self_with_portrait, "portrait", portrait)
        yield self_with_portrait

    def picture(self) -> Frames:
        return cast("Frames", vars(self)["portrait"])

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for _ in speech:
            yield self.picture()[None]


class Silent(Still):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        yield from ()


class Floats(Still):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for _ in speech:
            yield cast("Frames", self.picture()[None] / np.float32(255.0))


class SingleFrames(Still):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for _ in speech:
            yield self.picture()


class Shrinks(Still):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for size, _ in enumerate(speech, 10):
            yield self.picture()[None, :size]


class Wanders(Still):
    draws = np.random.default_rng(0)

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        for _ in speech:
            yield self.draws.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)


class Breaks(Still):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        yield self.picture()[None]
        raise RuntimeError("out of memory")


class PaintsPortrait(Still):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        self.picture()[:] = 0
        yield self.picture()[None]


class Waits(Still):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        yield np.repeat(self.picture()[None], len(list(speech)), axis=0)


def test_a_generator_that_waits_for_all_audio_passes_and_is_seen_not_to_stream() -> None:
    assert check_generator(Still).streams
    waiting = check_generator(Waits)
    assert not waiting.streams
    assert waiting.video_s == waiting.audio_s == waiting.first_frame_after_s == 2.0


@pytest.mark.parametrize(
    ("factory", "clause"),
    [
        (partial(Still, fps=0.0), "fps is a positive number"),
        (Silent, "every turn of a session has frames"),
        (Floats, r"yields uint8 RGB \[T, H, W, 3\]. Seen: ndarray of float32"),
        (SingleFrames, r"yields uint8 RGB.*Seen: ndarray of uint8 \[64, 64, 3\]"),
        (Shrinks, "one size"),
        (Wanders, "the same seed and audio give the same frames"),
        (Breaks, "until its audio ends. Seen: RuntimeError: out of memory"),
        (PaintsPortrait, "ValueError: .*read-only"),
    ],
)
def test_a_broken_generator_is_told_which_clause(factory: Any, clause: str) -> None:
    name = getattr(factory, "func", factory).__name__
    with pytest.raises(ConformanceError, match=f"Generator {name} breaks its contract: .*{clause}"):
        check_generator(factory)
