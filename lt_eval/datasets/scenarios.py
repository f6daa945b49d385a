"""Scenarios of multi-round conversations: what a user says in each turn, and what a good answer holds.

One JSON object a line; docs/scenarios.md has the schema. The builtin set, 100 scenarios written for this project, is
benchmarks/multiround/scenarios.jsonl. It is ours: the set of the LiveTalk paper (arXiv:2512.23576, section 5.3) was
never published.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from lt_eval.errors import DatasetError
from lt_eval.synthetic.phonemes import SILENCE, split_stress

_T = TypeVar("_T")

EMOTIONS = (
    *("amused", "angry", "anxious", "confused", "curious", "disappointed", "embarrassed", "excited", "frustrated"),
    *("grateful", "grieving", "happy", "hesitant", "hopeful", "neutral", "nostalgic", "proud", "relieved", "sad"),
    *("skeptical", "surprised", "tired", "worried"),
)
"""What a user may feel in a turn."""

TAGS = ("anaphora", "arithmetic", "correction", "ellipsis", "emotion-shift", "interruption", "recall", "topic-shift")
"""What makes a turn hard: docs/scenarios.md says each."""

NEGATION_REACH = 4
"""Words before a forbidden wording in which a negation takes it back."""

NEGATIONS = frozenset(
    (
        *("not", "never", "without", "nor", "neither", "cannot", "cant", "dont", "doesnt", "didnt", "isnt", "wasnt"),
        *("arent", "wont", "wouldnt", "shouldnt", "mustnt", "stop", "avoid"),
    )
)
NEGATED = frozenset({("instead", "of"), ("rather", "than"), ("no", "need"), ("no", "longer"), ("away", "from")})

FEWEST_TURNS, MOST_TURNS = 2, 5

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SCENARIO = ("id", "domain", "persona", "turns", "licence", "demo")
_PERSONA = ("name", "description", "portrait")
_TURN = (
    *("user", "emotion", "must_mention", "must_not", "refers_to", "tags"),
    *("user_audio", "phonemes", "answer", "answer_phonemes"),
)


@dataclass(frozen=True)
class Persona:
    """Whom the avatar plays: a name, looks and manner in a sentence, and a portrait where there is one."""

    name: str
    description: str
    portrait: Path | None = None


@dataclass(frozen=True)
class ScenarioTurn:
    """What the user says, and what is expected of the answer.

    Attributes:
        user_text: as a person would say it.
        emotion: one of EMOTIONS.
        must_mention: facts of a good answer; each is its alternative wordings, any of which will do.
        must_not: wordings that show a mistake, such as a value that the user has corrected.
        refers_to: earlier turns, counted from 0, without which this one cannot be understood or answered.
        tags: of TAGS.
        user_audio: the spoken line, where it is supplied.
        phonemes: of the user's words, for the builtin voice: ARPAbet with stress, a bar between words, SIL where a
            word is followed by a pause; "" where there are none.
        answer: a whole scripted answer; "" where one is to be made of the facts.
        answer_phonemes: the same for the answer.
    """

    user_text: str
    emotion: str = "neutral"
    must_mention: tuple[tuple[str, ...], ...] = ()
    must_not: tuple[str, ...] = ()
    refers_to: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    user_audio: Path | None = None
    phonemes: str = ""
    answer: str = ""
    answer_phonemes: str = ""


@dataclass(frozen=True)
class Scenario:
    """One conversation to be held. `demo` marks those with phonemes for the builtin voice, which need nothing else."""

    id: str
    domain: str
    persona: Persona
    turns: tuple[ScenarioTurn, ...]
    licence: str = "Apache-2.0"
    demo: bool = False


def load_scenarios(path: Path | None = None) -> tuple[Scenario, ...]:
    """Read and check a set of scenarios, all of it before the first is used.

    Args:
        path: a JSON Lines file; paths in it are relative to its folder. None is the builtin set.

    Raises:
        DatasetError: the file cannot be read, is empty, or a line breaks the schema; the message names file and line.
    """
    if path is None:
        with as_file(files("lt_eval.datasets") / "multiround" / "scenarios.jsonl") as builtin:
            return load_scenarios(builtin)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise DatasetError(f"{path}: cannot be read as scenarios, UTF-8 JSON Lines ({cause}).") from cause
    found: dict[str, tuple[int, Scenario]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        scenario = _scenario(_Line(path, number), line)
        if scenario.id in found:
            raise DatasetError(f"{path}:{number}: the id {scenario.id!r} is line {found[scenario.id][0]}'s already.")
        found[scenario.id] = number, scenario
    if not found:
        raise DatasetError(f"{path}: holds no scenario. docs/scenarios.md has the schema and an example.")
    return tuple(scenario for _, scenario in found.values())


def words_of(text: str) -> list[str]:
    """Return a text's words as a transcriber writes them: lower case, without punctuation, hyphens as spaces.

    Letters with accents are one letter however they are encoded; commas between thousands belong to the number.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return re.findall(r"[^\W_]+", re.sub(r"['’](?=\w)|(?<=\d),(?=\d{3}(?!\d))", "", plain))


def mentioned(wordings: Sequence[str], transcript: str) -> bool:
    """Whether a transcript holds one of the wordings, word by word."""
    said = f" {' '.join(words_of(transcript))} "
    return any(f" {' '.join(words_of(wording))} " in said for wording in wordings)


def mention_recall(turn: ScenarioTurn, transcript: str) -> float | None:
    """Return the share of the turn's facts that an answer mentions; None where nothing must be mentioned."""
    if not turn.must_mention:
        return None
    return sum(mentioned(wordings, transcript) for wordings in turn.must_mention) / len(turn.must_mention)


def forbidden(turn: ScenarioTurn, transcript: str) -> tuple[str, ...]:
    """Return the wordings of `must_not` that an answer holds, other than right after a negation.

    "Don't take ibuprofen" and "half past two, not half past three" say the opposite of what is forbidden.
    """
    clauses = [words_of(clause) for clause in re.split(r"[.!?;:,](?!\d)|\n", transcript)]
    return tuple(wording for wording in turn.must_not if any(_asserted(words_of(wording), said) for said in clauses))


def _asserted(wording: Sequence[str], said: Sequence[str]) -> bool:
    """Whether a clause holds a wording with no negation among the few words before it."""
    for start in range(len(said) - len(wording) + 1):
        before = said[max(0, start - NEGATION_REACH) : start]
        pairs = set(itertools.pairwise(before))
        if said[start : start + len(wording)] == list(wording) and not (NEGATIONS & {*before} or NEGATED & pairs):
            return True
    return False


@dataclass(frozen=True)
class _Line:
    """Where a value stands, for messages: file, line, and the path of keys within the line."""

    path: Path
    number: int
    where: str = ""

    def at(self, step: str | int) -> _Line:
        key = f"[{step}]" if isinstance(step, int) else f".{step}" if self.where else step
        return _Line(self.path, self.number, self.where + key)

    def error(self, rule: str) -> DatasetError:
        where = f" {self.where}:" if self.where else ""
        return DatasetError(f"{self.path}:{self.number}:{where} {rule}")


def _scenario(line: _Line, text: str) -> Scenario:
    try:
        data = json.loads(text)
    except ValueError as cause:
        raise line.error(f"is no JSON ({cause}). A scenario is one object on one line.") from cause
    record = _object(line, data, _SCENARIO, ("id", "domain", "persona", "turns"))
    id = _text(line.at("id"), record["id"])
    if not _ID.fullmatch(id):
        raise line.at("id").error(f"must be lower-case words with hyphens, as it names files; given {id!r}.")
    turns = record["turns"]
    if not isinstance(turns, list) or not FEWEST_TURNS <= len(turns) <= MOST_TURNS:
        given = len(turns) if isinstance(turns, list) else json.dumps(turns)[:60]
        raise line.at("turns").error(f"must be a list of {FEWEST_TURNS} to {MOST_TURNS} turns; given {given}.")
    demo = record.get("demo", False)
    if not isinstance(demo, bool):
        raise line.at("demo").error(f"must be true or false; given {json.dumps(demo)[:60]}.")
    scenario = Scenario(
        id,
        _text(line.at("domain"), record["domain"]),
        _persona(line.at("persona"), record["persona"]),
        tuple(_turn(line.at("turns").at(index), turn, index) for index, turn in enumerate(turns)),
        _text(line.at("licence"), record.get("licence", "Apache-2.0")),
        demo,
    )
    for index, turn in enumerate(scenario.turns):
        if demo and not (turn.phonemes and turn.answer_phonemes):
            raise line.at("turns").at(index).error("a demo scenario needs phonemes, answer and answer_phonemes.")
    return scenario


def _persona(line: _Line, data: object) -> Persona:
    record = _object(line, data, _PERSONA, ("name", "description"))
    return Persona(
        _text(line.at("name"), record["name"]),
        _text(line.at("description"), record["description"]),
        _file(line.at("portrait"), record.get("portrait")),
    )


def _turn(line: _Line, data: object, index: int) -> ScenarioTurn:
    record = _object(line, data, _TURN, ("user", "emotion"))
    text = _text(line.at("user"), record["user"])
    answer = _text(line.at("answer"), record["answer"]) if "answer" in record else ""
    facts = _texts(line.at("must_mention"), record.get("must_mention", []))
    return ScenarioTurn(
        text,
        _one_of(line.at("emotion"), record["emotion"], EMOTIONS),
        tuple(_wordings(line.at("must_mention").at(i), fact) for i, fact in enumerate(facts)),
        tuple(_texts(line.at("must_not"), record.get("must_not", []))),
        _earlier(line.at("refers_to"), record.get("refers_to", []), index),
        _tags(line.at("tags"), record.get("tags", [])),
        _file(line.at("user_audio"), record.get("user_audio")),
        _phonemes(line.at("phonemes"), record.get("phonemes"), text),
        answer,
        _phonemes(line.at("answer_phonemes"), record.get("answer_phonemes"), answer),
    )


def _object(line: _Line, data: object, keys: Sequence[str], needed: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise line.error(f"must be an object with the keys {', '.join(keys)}; given {json.dumps(data)[:60]}.")
    for key in data:
        if key not in keys:
            raise line.error(f"unknown key {key!r}.{_did_you_mean(key, keys)} Known: {', '.join(keys)}.")
    if missing := [key for key in needed if key not in data]:
        raise line.error(f"lacks {', '.join(missing)}.")
    return data


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _text(line: _Line, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise line.error(f"must be text that is not empty; given {json.dumps(value)[:60]}.")
    return " ".join(value.split())


def _texts(line: _Line, value: object) -> list[str]:
    if not isinstance(value, list):
        raise line.error(f"must be a list of texts; given {json.dumps(value)[:60]}.")
    return [_text(line.at(index), item) for index, item in enumerate(value)]


def _wordings(line: _Line, fact: str) -> tuple[str, ...]:
    wordings = tuple(wording.strip() for wording in fact.split("|"))
    if not all(words_of(wording) for wording in wordings):
        raise line.error(f"holds a wording without a word; given {fact!r}. Alternatives stand between bars: 'a | b'.")
    return wordings


def _one_of(line: _Line, value: object, known: Sequence[str]) -> str:
    if value not in known:
        raise line.error(f"unknown {value!r}.{_did_you_mean(str(value), known)} Known: {', '.join(known)}.")
    return str(value)


def _tags(line: _Line, value: object) -> tuple[str, ...]:
    tags = [_one_of(line.at(index), tag, TAGS) for index, tag in enumerate(_texts(line, value))]
    return _once(line, tags)


def _earlier(line: _Line, value: object, index: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < index for item in value):
        raise line.error(f"must list earlier turns, 0 to {index - 1}; given {json.dumps(value)[:60]}.")
    return _once(line, value)


def _once(line: _Line, values: Sequence[_T]) -> tuple[_T, ...]:
    if len(set(values)) < len(values):
        raise line.error(f"names something twice: {list(values)}.")
    return tuple(values)


def _file(line: _Line, value: object) -> Path | None:
    if value is None:
        return None
    relative = PurePosixPath(_text(line, value))
    folder = line.path.parent.resolve()
    found = (folder / relative).resolve()
    if relative.is_absolute() or not found.is_relative_to(folder):
        raise line.error(f"must lie in the folder of the scenarios, {folder}; given {str(value)!r}.")
    return found


def _phonemes(line: _Line, value: object, text: str) -> str:
    if value is None:
        return ""
    phonemes = _text(line, value)
    if not text:
        raise line.error("stands without the text that it pronounces.")
    groups = [group.split() for group in phonemes.split("|")]
    if len(groups) != len(text.split()):
        raise line.error(f"must be one group between bars a word; given {len(groups)} for {len(text.split())} words.")
    for word, group in zip(text.split(), groups, strict=True):
        sounds = group[:-1] if group[-1:] == [SILENCE] else group
        if not sounds or not all(map(_is_sound, sounds)):
            raise line.error(f"{word!r} needs ARPAbet phonemes, SIL only at its end; given {' '.join(group)!r}.")
    return phonemes


def _is_sound(symbol: str) -> bool:
    try:
        return split_stress(symbol)[0].name != SILENCE
    except (KeyError, ValueError):
        return False
