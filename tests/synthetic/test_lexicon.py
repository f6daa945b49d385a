from __future__ import annotations

import numpy as np
import pytest

from lt_eval.synthetic import lexicon
from lt_eval.synthetic.phonemes import PHONEMES, SILENCE, split_stress


def test_inventory_is_that_of_english() -> None:
    vowels = [p for p in PHONEMES.values() if p.is_vowel]
    assert (len(vowels), len(PHONEMES)) == (15, 40)
    for phoneme in PHONEMES.values():
        assert all(0 <= value <= 1 for name, value in phoneme.mouth._asdict().items() if name != "width")
        assert -1 <= phoneme.mouth.width <= 1
        assert phoneme.formants.f1 < phoneme.formants.f2 < phoneme.formants.f3


def test_every_word_has_known_phonemes_and_a_stress_on_each_vowel() -> None:
    for word, phonemes in lexicon.lexicon().items():
        for symbol in phonemes:
            assert split_stress(symbol)[0].is_vowel == symbol[-1].isdigit(), (word, symbol)


def test_sentences_use_every_phoneme() -> None:
    assert len(lexicon.SENTENCES) >= 24
    heard = {split_stress(symbol)[0].name for text in lexicon.SENTENCES for symbol in lexicon.utterance(text).phonemes}
    assert heard == set(PHONEMES)


def test_transcript_is_the_text() -> None:
    for text in lexicon.SENTENCES:
        spoken = lexicon.utterance(text)
        assert spoken.text == text
        assert spoken.question == text.endswith("?")


def test_unknown_word_is_refused() -> None:
    with pytest.raises(KeyError, match="xylophone"):
        lexicon.utterance("A xylophone.")


def test_made_sentences_hold_known_words_only() -> None:
    rng = np.random.default_rng(0)
    texts = {lexicon.make_sentence(rng).text for _ in range(300)}
    assert len(texts) > 200


def test_babble_has_the_syllables_asked_for_and_uses_every_phoneme() -> None:
    rng = np.random.default_rng(0)
    heard: set[str] = set()
    for count in range(1, 60):
        symbols = lexicon.make_babble(rng, count).phonemes
        assert sum(split_stress(symbol)[0].is_vowel for symbol in symbols) == count
        heard |= {split_stress(symbol)[0].name for symbol in symbols}
    assert heard == set(PHONEMES)


def test_same_seed_same_words() -> None:
    first, second = ([lexicon.make_utterance(np.random.default_rng(5)) for _ in range(3)] for _ in range(2))
    assert first == second


def test_pauses_are_silence() -> None:
    assert lexicon.utterance("Yes, no.").phonemes.count(SILENCE) == 2
