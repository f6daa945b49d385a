"""Speakers: the same text is the same sound, what is kept is what was said, and programs cannot do harm."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from lt_eval.errors import SpecError, UnscorableError
from lt_eval.media.waves import read_wav, wav_bytes
from lt_eval.records import Audio
from lt_eval.systems.speakers import CommandSpeaker, EspeakSpeaker, FormantSpeaker, Voice, make_voice

SAY = """
import sys, wave
text = sys.argv[2] if len(sys.argv) > 2 else sys.stdin.read()
with wave.open(sys.argv[1], "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(22050)
    file.writeframes(b"\\x00\\x10" * (len(text) * 100))
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "say.py"
    path.write_text(SAY)
    return str(path)


def test_the_formant_voice_says_the_same_text_the_same_way() -> None:
    first, again = (FormantSpeaker().speak("The tower is 330 metres tall.") for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.float32 and 0.02 < float(first.std()) < 0.5 and len(first) > 16_000


def test_the_user_and_the_avatar_sound_different_and_so_do_voices() -> None:
    said = [FormantSpeaker(voice=v, role=r).speak("Good morning.") for v in (0, 1) for r in ("user", "avatar")]
    assert len({sound.tobytes() for sound in said}) == 4
    prints = {FormantSpeaker(voice=v, role=r).fingerprint for v in (0, 1) for r in ("user", "avatar")}
    assert len(prints) == 4


def test_phonemes_of_the_dictionary_sound_like_the_text_itself() -> None:
    from lt_eval.synthetic.lexicon import lexicon

    phonemes = "|".join(" ".join(lexicon()[word]) for word in ("good", "morning"))
    spoken, written = FormantSpeaker().speak_phonemes(phonemes, "Good morning"), FormantSpeaker().speak("Good morning")
    assert np.array_equal(spoken, written)


def test_a_pause_makes_a_line_longer() -> None:
    plain = FormantSpeaker().speak_phonemes("G UH1 D|D EY1", "Good day")
    paused = FormantSpeaker().speak_phonemes("G UH1 D SIL|D EY1", "Good day")
    assert len(paused) > len(plain) + 2000


@pytest.mark.parametrize("phonemes", ["G UH1 QQ", "", "G UH1 D||D EY1"])
def test_what_is_no_phoneme_is_refused(phonemes: str) -> None:
    with pytest.raises(SpecError, match="ARPAbet"):
        FormantSpeaker().speak_phonemes(phonemes, "x")


def test_nothing_to_say_is_a_failure_and_no_silence() -> None:
    with pytest.raises(UnscorableError, match="cannot say"):
        FormantSpeaker().speak("?!")


@pytest.mark.parametrize("arguments", [("{out}", "{text}"), ("{out}",)])
def test_a_command_takes_text_as_an_argument_or_on_its_input(program: str, arguments: tuple[str, ...]) -> None:
    sound = CommandSpeaker((sys.executable, program, *arguments)).speak("hello")
    assert abs(len(sound) - 500 * 16_000 / 22_050) < 20


def test_a_command_may_write_its_sound_to_its_output(tmp_path: Path) -> None:
    (tmp_path / "said.wav").write_bytes(wav_bytes(np.full(1600, 0.5, np.float32)))
    code = f"import pathlib, sys; sys.stdout.buffer.write(pathlib.Path({str(tmp_path / 'said.wav')!r}).read_bytes())"
    assert len(CommandSpeaker((sys.executable, "-c", code, "{text}")).speak("hello")) == 1600


def test_a_text_is_never_a_shells(program: str, tmp_path: Path) -> None:
    CommandSpeaker((sys.executable, program, "{out}", "{text}")).speak(
        f"$(touch {tmp_path}/owned); `touch {tmp_path}/x`"
    )
    assert not (tmp_path / "owned").exists() and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "did not finish"),
        ("pass", "no sound"),
    ],
)
def test_a_program_that_fails_is_a_reason_without_its_text(code: str, finding: str) -> None:
    speaker = CommandSpeaker((sys.executable, "-c", code, "{out}", "{text}"), timeout_s=1.0)
    with pytest.raises(UnscorableError, match=finding) as caught:
        speaker.speak("a private line")
    assert caught.value.code == "speaker_failed" and "private" not in str(caught.value)


def test_an_absent_program_is_refused_before_anything_is_said() -> None:
    with pytest.raises(ValueError, match="no program"):
        CommandSpeaker(("no-such-program-here", "{text}"))


class Counting:
    """A speaker that counts how often it speaks."""

    def __init__(self) -> None:
        self.count = 0

    def speak(self, text: str) -> Audio:
        self.count += 1
        return np.full(160, 0.25, np.float32)


def test_a_kept_line_is_said_once_and_is_what_was_said() -> None:
    speaker = Counting()
    voice = Voice(speaker, "counting")
    first, again, other = voice.keep("hello"), voice.keep("hello"), voice.keep("hello!")
    assert first == again != other and speaker.count == 2
    assert np.allclose(read_wav(first.read_bytes())[0], 0.25, atol=1e-4)
    assert Voice(speaker, "another").keep("hello") != first


def test_auto_is_a_voice_that_is_here_and_unknown_names_are_refused() -> None:
    assert len(make_voice("auto").speak("Hello.")) > 1000
    with pytest.raises(Exception, match="formant"):
        make_voice("forment")


# The real espeak-ng, where it is installed -----------------------------------------------------------------------

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed (apt install espeak-ng)"
)


@needs_espeak
def test_espeak_says_a_line_at_16_khz_the_same_each_time() -> None:
    speaker = EspeakSpeaker()
    sound = speaker.speak("The tower is in Paris, and it is very tall.")
    assert sound.dtype == np.float32 and sound.ndim == 1 and np.isfinite(sound).all()
    assert 1.5 < len(sound) / 16_000 < 5.0
    assert float(np.sqrt(np.mean(sound**2))) > 0.02 and float(np.abs(sound).max()) <= 1.0
    assert np.array_equal(sound, EspeakSpeaker().speak("The tower is in Paris, and it is very tall."))


@needs_espeak
def test_espeaks_user_and_avatar_sound_different_and_its_speed_is_the_one_asked_for() -> None:
    line = "How long does it take to go around us?"
    avatar, user = EspeakSpeaker().speak(line), EspeakSpeaker(role="user").speak(line)
    assert len(avatar) != len(user) or not np.allclose(avatar, user)
    assert len(EspeakSpeaker(words_per_minute=240).speak(line)) < 0.9 * len(avatar)
    assert EspeakSpeaker().fingerprint != EspeakSpeaker(role="user").fingerprint
    assert EspeakSpeaker().fingerprint == EspeakSpeaker().fingerprint


@needs_espeak
def test_espeak_says_foreign_letters_many_lines_and_words_that_look_like_options() -> None:
    for text in ("Où est la Champs-Élysées?", "-v de --help", "One line.\n\nAnother line, " * 40):
        assert len(EspeakSpeaker().speak(text)) > 4000, text


@needs_espeak
def test_espeak_with_an_unknown_voice_is_a_failure_and_takes_no_options() -> None:
    with pytest.raises(UnscorableError) as caught:
        EspeakSpeaker(voice="xx").speak("hello")
    assert caught.value.code == "speaker_failed"
    with pytest.raises(ValueError, match="no name of a voice"):
        EspeakSpeaker(voice="--stdout")


@needs_espeak
def test_auto_is_espeak_where_it_is_installed() -> None:
    assert isinstance(make_voice("auto").speaker, EspeakSpeaker)
