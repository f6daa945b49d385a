"""The reference system: a talker decides what is said, a generator shows who says it.

Both stream. The talker runs ahead in a thread of its own; the generator takes its sound piece by piece and yields
frames as they are drawn. One generator session lasts a whole conversation, so that the video goes on from the
generator's memory of earlier turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from lt_eval import fingerprint
from lt_eval.errors import UnscorableError
from lt_eval.interfaces import HasFootnotes, Piece
from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.registry import create
from lt_eval.store import key_of
from lt_eval.systems.talking import Talking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lt_eval.interfaces import Generator, Session, Talker
    from lt_eval.records import Audio, Frames


@dataclass(frozen=True)
class Reference:
    """A talker plus a generator, each by its registered name or as module:Class.

    Attributes:
        talker: who answers: scripted, openai, qwen-omni ...
        talker_options: its keyword arguments.
        generator: what draws.
        generator_options: its keyword arguments.
        prompt: given to the generator, to which the persona's part of a chat would mean nothing.
        device: offered to both.
        scenarios: offered to the talker; the scripted one needs it.
        speaker: offered to the talker.
    """

    talker: str = "scripted"
    talker_options: Mapping[str, Any] = field(default_factory=dict)
    generator: str = "reference"
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = "A person talks to the viewer, with natural expressions."
    device: str = "auto"
    scenarios: str = ""
    speaker: str = "auto"

    def __post_init__(self) -> None:
        self._talker, self._generator  # noqa: B018  what cannot be made is reported before the first conversation

    @cached_property
    def _talker(self) -> Talker:
        offered = {"scenarios": self.scenarios, "device": self.device, "speaker": self.speaker}
        return cast("Talker", create("talkers", self.talker, self.talker_options, offered=offered))

    @cached_property
    def _generator(self) -> Generator:
        offered = {"device": self.device}
        return cast("Generator", create("generators", self.generator, self.generator_options, offered=offered))

    @property
    def fps(self) -> float:
        """Frames a second: the generator's."""
        return self._generator.fps

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the audio that is heard: the talker's."""
        return SAMPLE_RATE_HZ

    @property
    def footnotes(self) -> tuple[str, ...]:
        """What a reader must know of the generator."""
        return tuple(self._generator.footnotes) if isinstance(self._generator, HasFootnotes) else ()

    @property
    def fingerprint(self) -> str:
        """Changes with the talker, the generator, their options and their code."""
        return key_of(
            "reference-1",
            fingerprint.of_plugin(self._talker, self.talker, self.talker_options),
            fingerprint.of_plugin(self._generator, self.generator, self.generator_options),
            (self.prompt, self.speaker, self.scenarios),
        )

    @contextmanager
    def session(self, portrait: Frames, *, persona: str = "", seed: int = 0) -> Iterator[ReferenceSession]:
        """Open a conversation with the person in `portrait`, uint8 RGB [H, W, 3]."""
        with self._generator.session(portrait, prompt=self.prompt, seed=seed) as session:
            yield ReferenceSession(self._talker, session, self._generator.sample_rate, persona)


class ReferenceSession:
    """One conversation. `history` holds what was said in the turns that were answered whole."""

    def __init__(self, talker: Talker, session: Session, rate_hz: int, persona: str) -> None:
        self._talker, self._session, self._rate_hz, self._persona = talker, session, rate_hz, persona
        self.history: list[tuple[str, str]] = []

    def answer(self, text: str, audio: Audio | None = None) -> Iterator[Piece]:
        """Yield words, sound and frames as they come; a piece of sound is yielded before the frames that show it.

        Raises:
            UnscorableError: the talker failed or said nothing.
        """
        said: list[str] = []
        with Talking(self._talker.reply(tuple(self.history), text, audio, persona=self._persona)) as talking:
            pieces = iter(talking)
            opening: list[Audio] = []
            for words, sound in pieces:
                said.append(words)
                yield Piece(words, sound)
                if len(sound):  # the generator starts with the first sound
                    opening.append(sound)
                    break
            if not opening:
                raise UnscorableError("no_speech", "The talker ended its answer without a sound.")
            taken: list[Piece] = []
            for frames in self._session.speak(_speech(opening, pieces, taken, self._rate_hz)):
                for piece in taken:
                    said.append(piece.text)
                    yield piece
                taken.clear()
                yield Piece(frames=frames)
            for piece in taken:
                said.append(piece.text)
                yield piece
        self.history.append((text, "".join(said).strip()))


def _speech(
    opening: list[Audio], pieces: Iterator[tuple[str, Audio]], taken: list[Piece], rate_hz: int
) -> Iterator[Audio]:
    """Yield the sound at the generator's rate as it asks for it, and note in `taken` what it took."""
    from lt_eval.media.waves import Resampler

    resampler = Resampler(SAMPLE_RATE_HZ, rate_hz)
    for sound in opening:
        yield resampler.push(sound)
    for words, sound in pieces:
        taken.append(Piece(words, sound))
        if len(sound):
            yield resampler.push(sound)
    rest = resampler.finish()
    if len(rest):
        yield rest
