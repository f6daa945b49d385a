"""What a third party implements. All structural: no base class, no decorator, no import of lt_eval needed.

A *factory* (normally a frozen dataclass) is registered under a name; its keyword arguments are its options. See
docs/plugins.md for a metric in fifteen lines, and `lt_eval.testing` for checks that a plugin keeps these contracts.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from lt_eval.records import Audio, Column, Dialogue, Features, Frames, Sample, Score


class Clip(Protocol):
    """A handle on one video file, decoded at most once whoever asks and however often."""

    @property
    def path(self) -> Path:
        """The file, for tools that need one."""
        ...

    @property
    def fps(self) -> float:
        """Frames a second of `frames`: the policy's, or the file's own under the native policy."""
        ...

    @property
    def frames(self) -> Frames:
        """uint8 RGB [T, H, W, 3] at the run's policy; raises MediaError. May be a read-only map of a file."""
        ...

    @property
    def audio(self) -> Audio:
        """float32 [T] mono, -1..1, 16 kHz, sample 0 at the time of frame 0; raises NoAudioError."""
        ...


class ClipMetric(Protocol):
    """Scores one clip and never averages (sync, Q-Align)."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """Column name -> direction and unit."""
        ...

    def score(self, sample: Sample) -> Mapping[str, float] | Score:
        """Return one value a column; raise UnscorableError or MediaError where there is none."""
        ...


class DialogueMetric(Protocol):
    """Scores one dialogue with all its clips (the judge, identity across turns)."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """Column name -> direction and unit."""
        ...

    def score_dialogue(self, samples: Sequence[Sample], transcript: str) -> Mapping[str, float]:
        """Return one value a column; raise UnscorableError where there is none."""
        ...


class SetMetric(Protocol):
    """Compares the clips of a method with the references as two sets (FID, FVD).

    Sets are sequences of per-clip features, not one pooled array: clips are what a bootstrap may resample, and a
    sequence may be read from disk one clip at a time.
    """

    @property
    def columns(self) -> Mapping[str, Column]:
        """Column name -> direction and unit."""
        ...

    def features(self, clip: Clip) -> Features:
        """Return float32 [N, D] of one clip; raise UnscorableError or MediaError where there are none."""
        ...

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        """Return one value a column. Pure: no decoding, no network."""
        ...


class Influence(NamedTuple):
    """First-order pull of each clip on a statistic: n * d(statistic)/d(weight of the clip); sums to zero."""

    generated: NDArray[np.float64]  # [number of generated clips]
    reference: NDArray[np.float64]  # [number of reference clips]


@runtime_checkable
class HasInfluence(Protocol):
    """A SetMetric that knows its derivative; others are jackknifed, one `distance` a clip."""

    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        """Return each column's per-clip influence."""
        ...


@runtime_checkable
class HasFloor(Protocol):
    """A SetMetric that can say what two samples of one distribution would give."""

    def floor(self, reference: Sequence[Features], clips: int) -> Mapping[str, float]:
        """Return each column's expected value between `clips` clips and `len(reference)` clips of one distribution."""
        ...


@runtime_checkable
class HasFingerprint(Protocol):
    """A metric that names everything that can change its result (weights, code version); others are hashed by us."""

    @property
    def fingerprint(self) -> str:
        """A string that differs whenever features or scores may differ."""
        ...


@runtime_checkable
class MayBeUnavailable(Protocol):
    """A metric that with some options has no value for any clip, such as one without builtin weights."""

    @property
    def unavailable(self) -> str:
        """Why, as a clause that a table can show; empty where it can score."""
        ...


@runtime_checkable
class HasFootnotes(Protocol):
    """A metric that says under the table how it was computed."""

    @property
    def footnotes(self) -> Sequence[str]:
        """One sentence each."""
        ...


@runtime_checkable
class HasFindings(Protocol):
    """A metric that knows only after measuring what a reader must know, such as which detector found the faces."""

    def findings(self, details: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Return footnotes, one sentence each, from the details of all scored rows of a run."""
        ...


class Dataset(Protocol):
    """An ordered collection of dialogues. `lt_eval` slices it; it need not."""

    @property
    def version(self) -> str:
        """Changes whenever an item may change."""
        ...

    def __len__(self) -> int:
        """Number of dialogues."""
        ...

    def __getitem__(self, index: int, /) -> Dialogue:
        """Return one dialogue."""
        ...


@runtime_checkable
class HasMethods(Protocol):
    """A data set that brings methods of its own to compare (demo)."""

    @property
    def methods(self) -> Mapping[str, Path]:
        """Method name -> folder of clips named by dialogue id."""
        ...


class Session(Protocol):
    """One conversation with a generator; remembers earlier turns."""

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        """Take audio as it arrives and yield frames as soon as their pixels are on the host."""
        ...


class Generator(Protocol):
    """A talking-avatar model."""

    @property
    def fps(self) -> float:
        """Frames a second it makes."""
        ...

    @property
    def sample_rate(self) -> int:
        """Audio rate in Hz it wants."""
        ...

    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> AbstractContextManager[Session]:
        """Open a conversation with the person in `portrait`, uint8 RGB [H, W, 3]."""
        ...


@runtime_checkable
class HasDescription(Protocol):
    """A generator that says what decides its speed."""

    @property
    def description(self) -> Mapping[str, Any]:
        """JSON types, for the manifest: dtype, resolution, steps, window, device, parameters ..."""
        ...


@runtime_checkable
class HasBlocks(Protocol):
    """A generator whose frames are made in blocks, which need not be the chunks it yields."""

    @property
    def block_frames(self) -> Sequence[int]:
        """Frames of the first, the second ... block; the last number holds for all later ones."""
        ...


@runtime_checkable
class MayNotStream(Protocol):
    """A generator that knows whether its first frames come before its last ones are made."""

    @property
    def streams(self) -> bool:
        """False where all frames come at the end, however many chunks they are handed over in."""
        ...


@runtime_checkable
class HasStages(Protocol):
    """A generator whose two halves can be timed apart. Both yield when the work is done on the device, not before.

    Each yields the number of frames of one block after another: those that the block's work stands for.
    """

    def denoise_only(self, portrait: Frames, speech: Audio, *, prompt: str = "", seed: int = 0) -> Iterator[int]:
        """Make the latents of a whole turn, and no pixel."""
        ...

    def decode_only(self, portrait: Frames, speech: Audio, *, prompt: str = "", seed: int = 0) -> Iterator[int]:
        """Decode as many latents as the turn would have, random ones, to pixels on the host."""
        ...


class Talker(Protocol):
    """Answers a user's turn with text and speech; Generator + Talker make an interactive system."""

    def reply(
        self, history: Sequence[tuple[str, str]], text: str, audio: Audio | None = None, *, persona: str = ""
    ) -> Iterator[tuple[str, Audio]]:
        """Yield pieces of the answer as they come: text and the audio that speaks it, float32 [T] mono at 16 kHz.

        Args:
            history: earlier turns of this conversation, what the user said and what was answered.
            text: the user's words.
            audio: the user's spoken line, float32 [T] mono at 16 kHz, where there is one.
            persona: who answers, in words.
        """
        ...


class Speaker(Protocol):
    """Text to speech."""

    def speak(self, text: str) -> Audio:
        """Return float32 [T] mono at 16 kHz."""
        ...


@runtime_checkable
class SpeaksPhonemes(Protocol):
    """A Speaker that takes a pronunciation, where a data set brings one."""

    def speak_phonemes(self, phonemes: str, text: str) -> Audio:
        """Return float32 [T] mono at 16 kHz.

        Args:
            phonemes: ARPAbet with stress digits, groups separated by "|", one a word; SIL ends one that pauses.
            text: the words as written.
        """
        ...


class Piece(NamedTuple):
    """What an interactive system gives at one moment. What there is none of is empty."""

    text: str = ""
    audio: Audio | None = None  # float32 [T] mono at the system's sample_rate
    frames: Frames | None = None  # uint8 [T, H, W, 3]


class SystemSession(Protocol):
    """One conversation with an interactive system; remembers earlier turns."""

    def answer(self, text: str, audio: Audio | None = None) -> Iterator[Piece]:
        """Yield text, sound and pictures of the answer as soon as each is on the host.

        The user has just stopped speaking when this is called: `audio` is the whole line, float32 [T] mono at 16 kHz,
        and `text` its words. Sound is yielded no later than the frames that show it.
        """
        ...


class System(Protocol):
    """What takes part in a conversation: something that answers a user with video and speech, turn by turn."""

    @property
    def fps(self) -> float:
        """Frames a second at which its answers are played."""
        ...

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the audio it gives."""
        ...

    def session(self, portrait: Frames, *, persona: str = "", seed: int = 0) -> AbstractContextManager[SystemSession]:
        """Open a conversation with the person in `portrait`, uint8 RGB [H, W, 3], whom `persona` describes."""
        ...


class Transcriber(Protocol):
    """Speech to text."""

    def transcribe(self, audio: Audio) -> str:
        """Return the words of float32 [T] mono 16 kHz audio."""
        ...
