"""Letters to sounds: every text can be said, and known words sound as the dictionary has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.synthetic.letters import number_words, pronounce, spoken, utterance_by_rule
from lt_eval.synthetic.lexicon import lexicon
from lt_eval.synthetic.phonemes import PHONEMES, SILENCE


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=14))
def test_every_word_has_phonemes_and_one_stressed_vowel(word: str) -> None:
    sounds = pronounce(word)
    names = [sound.rstrip("012") for sound in sounds]
    assert sounds and all(name in PHONEMES and name != SILENCE for name in names)
    assert [s[-1] for s in sounds if s[-1].isdigit()].count("1") == 1


@pytest.mark.parametrize(
    ("word", "phonemes"),
    [
        ("station", "S T EY1 SH AH0 N"),
        ("knight", "N AY1 T"),
        ("phone", "F OW1 N"),
        ("wanted", "W AE1 N T IH0 D"),
        ("walked", "W AO1 K T"),
        ("cake", "K EY1 K"),
    ],
)
def test_rules_give_what_english_does(word: str, phonemes: str) -> None:
    assert " ".join(pronounce(word)) == phonemes


def test_rules_agree_with_the_dictionary_on_most_consonants() -> None:
    """Vowels are hard; the consonants of two in three dictionary words must come out exactly."""

    def consonants(sounds: tuple[str, ...]) -> list[str]:
        return [sound for sound in sounds if not sound[-1].isdigit()]

    words = lexicon()
    right = sum(consonants(pronounce(word)) == consonants(known) for word, known in words.items())
    assert right / len(words) > 0.67


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (17, "seventeen"),
        (42, "forty two"),
        (330, "three hundred thirty"),
        (1889, "eighteen eighty nine"),
        (1905, "nineteen oh five"),
        (1500, "one thousand five hundred"),
        (2024, "two thousand twenty four"),
        (1_000_000, "one million"),
    ],
)
def test_numbers_are_read_as_people_read_them(number: int, words: str) -> None:
    assert number_words(number) == words


def test_signs_and_digits_become_words() -> None:
    assert " ".join(spoken("25% of 1,234").split()) == "twenty five percent of twelve thirty four"
    assert spoken("3.5").split() == ["three", "point", "five"]


def test_a_text_keeps_its_pauses_and_its_question() -> None:
    said = utterance_by_rule("Well, is the Eiffel Tower 330 metres — or 300?")
    assert said.question
    assert said.words[0].pause_s > 0 and said.words[-1].pause_s > 0
    assert said.words[0].phonemes == lexicon()["well"]


def test_a_text_without_words_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="no word"):
        utterance_by_rule("... !")
