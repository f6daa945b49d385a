"""A talker without a model: it answers with what the scenario says a good answer must mention, or with stored answers.

It makes the whole pipeline run with nothing downloaded. It knows the answers, so its content scores say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lt_eval.datasets.scenarios import load_scenarios
from lt_eval.errors import SpecError, UnscorableError
from lt_eval.store import key_of
from lt_eval.systems.speakers import Voice, make_voice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lt_eval.datasets.scenarios import ScenarioTurn
    from lt_eval.records import Audio


class Line(NamedTuple):
    """What is answered, and how it is said by a voice that takes phonemes ("" where nothing says)."""

    text: str
    phonemes: str = ""


@dataclass(frozen=True)
class ScriptedTalker:
    """Answers from the scenarios' own facts, or from a file of answers.

    Attributes:
        scenarios: file of scenarios; "" is the set that comes with lt-eval.
        answers: JSON file, scenario id -> list of answers, one a turn; a scenario that it lacks answers from its facts.
        speaker: a registered speaker or module:Class; "auto" is espeak-ng where installed, else the formant voice.
        speaker_options: of the speaker.
    """

    scenarios: str = ""
    answers: str = ""
    speaker: str = "auto"
    speaker_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._voice, self._script  # noqa: B018  what cannot be read or made is reported before the first conversation

    @cached_property
    def _voice(self) -> Voice:
        return make_voice(self.speaker, self.speaker_options)

    @cached_property
    def _script(self) -> dict[tuple[str, ...], Line]:
        """What to answer, by all that the user has said so far."""
        stored = _read_answers(Path(self.answers)) if self.answers else {}
        script = {}
        for scenario in load_scenarios(Path(self.scenarios) if self.scenarios else None):
            lines = [turn.user_text for turn in scenario.turns]
            own = stored.get(scenario.id, [])
            for number, turn in enumerate(scenario.turns):
                known = Line(turn.answer or answer_of(turn), turn.answer_phonemes)
                script[tuple(lines[: number + 1])] = Line(own[number]) if number < len(own) else known
        return script

    @property
    def fingerprint(self) -> str:
        """Changes with the answers and the voice."""
        return key_of("scripted-1", sorted(self._script.items()), self._voice.identity)

    def reply(
        self, history: Sequence[tuple[str, str]], text: str, audio: Audio | None = None, *, persona: str = ""
    ) -> Iterator[tuple[str, Audio]]:
        """Yield a sentence and its sound, one after the other.

        Raises:
            UnscorableError: no scenario has this conversation.
        """
        answer = self._script.get((*(said for said, _ in history), text))
        if answer is None:
            raise UnscorableError(
                "no_script", "The scripted talker has no answer to this line: it stands in none of its scenarios."
            )
        for sentence in sentences_of(answer):
            yield f"{sentence.text} ", self._voice.speak(*sentence)


def answer_of(turn: ScenarioTurn) -> str:
    """Return the facts that a good answer mentions, in their first wording, each a sentence."""
    facts = [wordings[0] for wordings in turn.must_mention]
    return " ".join(fact[0].upper() + fact[1:].rstrip(".") + "." for fact in facts) if facts else "I see."


def sentences_of(line: Line) -> list[Line]:
    """Return the sentences of a line, each with its share of the phonemes, one group a word."""
    groups = line.phonemes.split("|") if line.phonemes else []
    found, words = [], []
    for number, word in enumerate(line.text.split(), 1):
        words.append(word)
        if word[-1] in ".!?" or number == len(line.text.split()):
            found.append(Line(" ".join(words), "|".join(groups[number - len(words) : number])))
            words = []
    return found


def _read_answers(path: Path) -> dict[str, list[str]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise SpecError(f"{path}: the answers cannot be read ({cause.strerror}).") from cause
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise SpecError(f"{path}: not JSON ({cause}).") from cause
    lists = data.values() if isinstance(data, dict) else [None]
    if not all(isinstance(own, list) and all(isinstance(text, str) and text.strip() for text in own) for own in lists):
        raise SpecError(f"{path}: it must be an object, scenario id -> list of answers, one text a turn.")
    return dict(data)
