from __future__ import annotations

import itertools
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval.datasets.scenarios import (
    EMOTIONS,
    TAGS,
    Scenario,
    ScenarioTurn,
    forbidden,
    load_scenarios,
    mention_recall,
    mentioned,
    words_of,
)
from lt_eval.errors import DatasetError
from lt_eval.synthetic.lexicon import Utterance, Word, lexicon
from lt_eval.synthetic.speaker import make_voice
from lt_eval.synthetic.voice import speak

SCENARIOS = load_scenarios()
TURNS = [(scenario, index, turn) for scenario in SCENARIOS for index, turn in enumerate(scenario.turns)]
LINES = [turn.user_text for _, _, turn in TURNS]


def where(scenario: Scenario, index: int) -> str:
    return f"{scenario.id}, turn {index}"


# What the builtin set holds


def test_there_are_a_hundred_scenarios_of_two_to_five_turns_mostly_three() -> None:
    turns = Counter(len(scenario.turns) for scenario in SCENARIOS)
    assert turns == {2: 10, 3: 68, 4: 11, 5: 11}
    assert len({scenario.id for scenario in SCENARIOS}) == 100
    assert len(LINES) == 323


def test_twenty_domains_have_five_scenarios_each() -> None:
    domains = Counter(scenario.domain for scenario in SCENARIOS)
    assert len(domains) == 20
    assert set(domains.values()) == {5}


def test_every_tag_and_every_emotion_occurs_and_no_personas_are_alike() -> None:
    tags = Counter(tag for _, _, turn in TURNS for tag in turn.tags)
    assert set(tags) == set(TAGS)
    assert min(tags.values()) >= 15, tags
    assert {turn.emotion for _, _, turn in TURNS} == set(EMOTIONS)
    for values in ([s.persona.name for s in SCENARIOS], [s.persona.description for s in SCENARIOS]):
        assert len(set(values)) == 100


def test_every_turn_says_what_a_good_answer_holds() -> None:
    for scenario, index, turn in TURNS:
        assert 1 <= len(turn.must_mention) <= 4, where(scenario, index)
        for wording in itertools.chain(*turn.must_mention):
            assert len(words_of(wording)) <= 6, where(scenario, index)


def test_what_cannot_be_understood_alone_says_what_it_refers_to() -> None:
    for scenario, index, turn in TURNS:
        if {"anaphora", "ellipsis", "recall"} & set(turn.tags):
            assert turn.refers_to, where(scenario, index)
    referring = [turn for _, index, turn in TURNS if index and turn.refers_to]
    assert len(referring) > 0.8 * (len(TURNS) - 100)
    far = [turn for _, index, turn in TURNS if index and any(index - other > 1 for other in turn.refers_to)]
    assert len(far) >= 50, "follow-ups that need more than the turn before"


def test_no_fact_is_forbidden_too() -> None:
    for scenario, index, turn in TURNS:
        for wording in itertools.chain(*turn.must_mention):
            assert not forbidden(turn, wording), where(scenario, index)


def test_no_two_lines_share_a_template() -> None:
    """Shingles of three words: rewordings of one sentence share a third of them and more, different ones hardly any."""
    shingles = [_shingles(words_of(line), 3) for line in LINES]
    for (one, a), (other, b) in itertools.combinations(zip(LINES, shingles, strict=True), 2):
        assert len(a & b) < 0.15 * len(a | b), (one, other)


def test_no_two_scenarios_are_one_story() -> None:
    texts = [words_of(" ".join(turn.user_text for turn in scenario.turns)) for scenario in SCENARIOS]
    shingles = [_shingles(words, 2) for words in texts]
    for (one, a), (other, b) in itertools.combinations(zip(SCENARIOS, shingles, strict=True), 2):
        assert len(a & b) < 0.12 * len(a | b), (one.id, other.id)


def test_openings_differ() -> None:
    for words, most in ((1, 26), (2, 4), (3, 3)):
        counts = Counter(tuple(words_of(line)[:words]) for line in LINES)
        assert max(counts.values()) <= most, counts.most_common(3)
    first = Counter(tuple(words_of(scenario.turns[0].user_text)[:2]) for scenario in SCENARIOS)
    assert max(first.values()) <= 2, first.most_common(3)


def test_lines_are_of_many_lengths_and_can_be_spoken() -> None:
    lengths = [len(words_of(line)) for line in LINES]
    assert min(lengths) <= 5
    assert max(lengths) >= 28
    assert 12 <= np.median(lengths) <= 18
    for line in LINES:
        assert not set(line) & set('0123456789*_#/<>{}[]@$%&=:;()"'), line
        assert line[-1] in ".?!", line


def _shingles(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


# The demo scenarios


def test_four_short_scenarios_can_be_spoken_by_the_builtin_voice() -> None:
    demos = [scenario for scenario in SCENARIOS if scenario.demo]
    assert len(demos) == 4
    known = lexicon()
    for scenario in demos:
        assert len(scenario.turns) <= 3
        for turn in scenario.turns:
            for text, phonemes in ((turn.user_text, turn.phonemes), (turn.answer, turn.answer_phonemes)):
                utterance = _utterance(text, phonemes)
                for word in utterance.words:
                    bare = word.text.strip(",.?!").lower()
                    assert word.phonemes == known.get(bare, word.phonemes), word
                speech = speak(utterance, make_voice(np.random.default_rng(0)))
                assert 1.0 < len(speech.audio) / 16_000 < 8.0, text


def test_scripted_answers_hold_their_facts_and_nothing_forbidden() -> None:
    scripted = [turn for _, _, turn in TURNS if turn.answer]
    assert len(scripted) == 9
    for turn in scripted:
        assert mention_recall(turn, turn.answer) == 1.0, turn.answer
        assert not forbidden(turn, turn.answer)


def _utterance(text: str, phonemes: str) -> Utterance:
    words = []
    for word, group in zip(text.split(), phonemes.split("|"), strict=True):
        sounds = group.split()
        words.append(Word(word, tuple(s for s in sounds if s != "SIL"), 0.25 * sounds.count("SIL")))
    return Utterance(tuple(words), question=text.endswith("?"))


# Mentions


def test_a_fact_is_mentioned_in_any_of_its_wordings_word_by_word() -> None:
    assert mentioned(("two hundred fifty", "250"), "That makes 250 grams.")
    assert mentioned(("Champs-Élysées",), "it is the champs élysées of course")
    assert mentioned(("don't stop",), "Don’t stop!")
    assert not mentioned(("four",), "fourteen? no: forty, fourfold")
    assert not mentioned(("ice",), "nice rice")


def test_numbers_and_accents_are_words_however_they_are_written() -> None:
    assert mentioned(("11280",), "That is 11,280 euros.")
    assert mentioned(("1800",), "I paid 1,800, not more")
    assert not mentioned(("1800",), "rooms 1, 800 and 2")
    assert not mentioned(("12",), "1,2 or 3")
    assert mentioned(("Champs-Élysées",), unicodedata.normalize("NFD", "It is the Champs-Élysées."))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Just take ibuprofen.", True),
        ("No, take ibuprofen.", True),
        ("I am not sure. Take ibuprofen.", True),
        ("Don't take ibuprofen with blood thinners.", False),
        ("You should never take ibuprofen now", False),
        ("do not under these circumstances take ibuprofen", False),
        ("Rest instead of running, and take ibuprofen.", True),
        ("Rather than take ibuprofen, ask your doctor.", False),
        ("Don't take ibuprofen today. Take ibuprofen tomorrow.", True),
        ("Take it.", False),
        ("ibuprofen", False),
    ],
)
def test_a_forbidden_wording_counts_where_it_is_said_and_not_where_it_is_denied(answer: str, found: bool) -> None:
    turn = ScenarioTurn("?", must_not=("take ibuprofen",))
    assert forbidden(turn, answer) == (("take ibuprofen",) if found else ())


def test_recall_is_the_share_of_facts() -> None:
    turn = ScenarioTurn("?", must_mention=(("flour",), ("milk", "water"), ("egg",), ("butter",)), must_not=("peanuts",))
    assert mention_recall(turn, "flour and water, and peanuts") == 0.5
    assert mention_recall(turn, "") == 0.0
    assert mention_recall(ScenarioTurn("?"), "anything") is None
    assert forbidden(turn, "no Peanuts!") == ("peanuts",)


# Files of one's own


def record(**changes: Any) -> dict[str, Any]:
    turns = [
        {"user": "Where is it?", "emotion": "curious", "must_mention": ["Paris | the capital"]},
        {"user": "And that?", "emotion": "happy", "refers_to": [0], "tags": ["ellipsis"], "must_not": ["Rome"]},
    ]
    return {
        "id": "one",
        "domain": "travel",
        "persona": {"name": "Ann", "description": "a guide"},
        "turns": turns,
        **changes,
    }


def turned(**changes: Any) -> dict[str, Any]:
    given = record()
    given["turns"][1].update(changes)
    return given


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return path


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "ann.png").touch()
    persona = {"name": "Ann", "description": "a guide", "portrait": "ann.png"}
    own = turned(user_audio="audio/one-1.wav") | {"persona": persona, "licence": "CC0-1.0"}
    (scenario,) = load_scenarios(write(tmp_path / "own.jsonl", own))
    assert scenario.persona.portrait == (tmp_path / "ann.png").resolve()
    assert scenario.licence == "CC0-1.0"
    assert scenario.turns[0].must_mention == (("Paris", "the capital"),)
    assert scenario.turns[1] == ScenarioTurn(
        "And that?",
        "happy",
        must_not=("Rome",),
        refers_to=(0,),
        tags=("ellipsis",),
        user_audio=(tmp_path / "audio" / "one-1.wav").resolve(),
    )


BROKEN = {
    "unknown key": (record(domian="x"), ["unknown key 'domian'", "Did you mean 'domain'?"]),
    "unknown key of a turn": (turned(must_mentoin=[]), ["turns[1]", "Did you mean 'must_mention'?"]),
    "unknown emotion": (turned(emotion="exited"), ["turns[1].emotion", "Did you mean 'excited'?"]),
    "unknown tag": (turned(tags=["anafora"]), ["turns[1].tags[0]", "Did you mean 'anaphora'?"]),
    "tag twice": (turned(tags=["recall", "recall"]), ["twice"]),
    "later turn": (turned(refers_to=[1]), ["turns[1].refers_to", "earlier turns, 0 to 0"]),
    "true is no turn": (turned(refers_to=[True]), ["earlier turns"]),
    "empty text": (turned(user="  "), ["turns[1].user", "not empty"]),
    "number as text": (turned(user=7), ["turns[1].user", "given 7"]),
    "empty alternative": (turned(must_mention=["a | "]), ["must_mention[0]", "Alternatives"]),
    "facts as text": (turned(must_mention="a"), ["must_mention", "list of texts"]),
    "one turn": (record(turns=record()["turns"][:1]), ["2 to 5 turns", "given 1"]),
    "no list of turns": (record(turns={}), ["2 to 5 turns"]),
    "no persona": ({k: v for k, v in record().items() if k != "persona"}, ["lacks persona"]),
    "persona as text": (record(persona="Ann"), ["persona", "must be an object"]),
    "id with a slash": (record(id="../one"), ["names files"]),
    "demo as text": (record(demo="yes"), ["true or false"]),
    "demo without phonemes": (record(demo=True), ["a demo scenario needs phonemes"]),
    "portrait elsewhere": (
        record(persona={"name": "A", "description": "b", "portrait": "../../etc/passwd"}),
        ["persona.portrait", "must lie in the folder"],
    ),
    "absolute audio": (turned(user_audio="/etc/passwd"), ["must lie in the folder"]),
    "too few phonemes": (turned(phonemes="AE1 N D"), ["one group between bars a word", "given 1 for 2"]),
    "no phoneme": (turned(phonemes="AE1 N D | XX"), ["'that?'", "ARPAbet"]),
    "silence alone": (turned(phonemes="AE1 N D | SIL"), ["ARPAbet"]),
    "phonemes of nothing": (turned(answer_phonemes="AE1"), ["without the text"]),
    "a list": ([1, 2], ["must be an object"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_named_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    broken, said = BROKEN[name]
    path = write(tmp_path / "own.jsonl", record(id="fine"), broken)
    with pytest.raises(DatasetError) as error:
        load_scenarios(path)
    assert f"{path}:2:" in str(error.value)
    for part in said:
        assert part in str(error.value)


def test_what_is_no_file_of_scenarios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        load_scenarios(tmp_path / "absent.jsonl")
    with pytest.raises(DatasetError, match="no scenario"):
        load_scenarios(write(tmp_path / "empty.jsonl"))
    with pytest.raises(DatasetError, match=r"own\.jsonl:2:.*is line 1's already"):
        load_scenarios(write(tmp_path / "own.jsonl", record(), record()))
    (tmp_path / "text.jsonl").write_text("\nno json\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"text\.jsonl:2: is no JSON"):
        load_scenarios(tmp_path / "text.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="UTF-8"):
        load_scenarios(tmp_path / "bytes.jsonl")
