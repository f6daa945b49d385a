"""Text to speech: espeak-ng, any command, or the builtin formant voice, which needs nothing.

    formant    lt_eval.synthetic.voice; deterministic; foreign words are said by rule, and often wrongly
    espeak     espeak-ng, where it is installed
    command    any program that reads text and writes a sound file

A user's lines are kept, by text and voice, so that all systems and runs hear the same file; what an avatar says is not,
since its time counts.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.errors import LtEvalError, SpecError, UnscorableError
from lt_eval.interfaces import SpeaksPhonemes
from lt_eval.paths import cache_dir
from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.store import atomic_write, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lt_eval.interfaces import Speaker
    from lt_eval.records import Audio
    from lt_eval.synthetic.lexicon import Utterance

COMMAND_TIMEOUT_S = 120.0

PAUSE_S = 0.25
"""Of the formant voice after a word whose phonemes end with SIL."""

ROLES = ("avatar", "user")
"""Whose lines a speaker says; the two should not sound alike."""


def check_role(role: str) -> None:
    """Refuse what is no role; raises ValueError."""
    if role not in ROLES:
        raise ValueError(f"role = {role!r} must be one of {', '.join(ROLES)}")


@dataclass(frozen=True)
class FormantSpeaker:
    """The builtin voice of `lt_eval.synthetic.voice`: any English text, nothing to install.

    Attributes:
        voice: a number that decides who speaks; odd ones are high voices.
        rate: speed of speech; 1 is about 12 phonemes a second.
        role: who is heard, the "avatar" or the "user": the same number gives each another voice.
    """

    voice: int = 0
    rate: float = 1.0
    role: str = "avatar"

    def __post_init__(self) -> None:
        check_role(self.role)
        if self.voice < 0 or not 0.5 <= self.rate <= 2.0:
            raise ValueError(f"voice = {self.voice} must not be negative, and rate = {self.rate} must lie in 0.5..2")

    @property
    def fingerprint(self) -> str:
        """Changes with the voice and with the code that speaks."""
        from lt_eval import fingerprint, synthetic

        folder = Path(str(synthetic.__file__)).parent
        names = ("voice", "speaker", "tracks", "phonemes", "lexicon", "letters")
        return key_of(
            "formant-1", self.voice, self.rate, self.role, [fingerprint.of_file(folder / f"{n}.py") for n in names]
        )

    def speak(self, text: str) -> Audio:
        """Return float32 [T] mono at 16 kHz; raises UnscorableError where there is nothing to say."""
        from lt_eval.synthetic.letters import utterance_by_rule

        try:
            return self._say(utterance_by_rule(text))
        except ValueError as cause:
            raise UnscorableError("nothing_to_say", f"The formant voice cannot say this: {cause}.") from None

    def speak_phonemes(self, phonemes: str, text: str) -> Audio:
        """Return float32 [T] mono at 16 kHz.

        Args:
            phonemes: ARPAbet with stress digits, groups separated by "|", one a word; SIL ends one that pauses.
            text: the words as written; a question mark at the end makes the pitch rise.

        Raises:
            SpecError: something is no phoneme, or there is none.
        """
        from lt_eval.synthetic.lexicon import Utterance, Word
        from lt_eval.synthetic.phonemes import PHONEMES, SILENCE

        words = []
        for group in phonemes.split("|"):
            symbols = group.split()
            sounds = tuple(symbol for symbol in symbols if symbol != SILENCE)
            unknown = [symbol for symbol in sounds if symbol.rstrip("012") not in PHONEMES]
            if unknown or not sounds:
                raise SpecError(
                    f"phonemes: {' '.join(symbols)!r} is no word. Write ARPAbet with stress digits on vowels, such as "
                    'T AW1 ER0, one group a word, separated by "|".'
                )
            words.append(Word(" ".join(sounds), sounds, PAUSE_S if symbols[-1] == SILENCE else 0.0))
        return self._say(Utterance(tuple(words), question=text.rstrip().endswith("?")))

    def _say(self, utterance: Utterance) -> Audio:
        from dataclasses import replace

        from lt_eval.synthetic import voice
        from lt_eval.synthetic.speaker import make_voice

        who = make_voice(np.random.default_rng([77, self.voice, ROLES.index(self.role)]), high=self.voice % 2 == 1)
        who = replace(who, rate=who.rate * self.rate)
        return voice.speak(utterance, who, seed=self.voice, lead_s=0.1, tail_s=0.2).audio


@dataclass(frozen=True)
class CommandSpeaker:
    """Any program that says a text.

    Attributes:
        argv: the program and its arguments, never through a shell. "{text}" becomes the text and "{out}" the file to
            write; without "{text}" the text comes on standard input, without "{out}" sound is taken from standard
            output.
        timeout_s: after this long the program is stopped.
    """

    argv: Sequence[str]
    timeout_s: float = COMMAND_TIMEOUT_S

    def __post_init__(self) -> None:
        if isinstance(self.argv, str) or not self.argv or not all(isinstance(word, str) for word in self.argv):
            raise ValueError(f'argv = {self.argv!r} must be a list such as ["say", "-o", "{{out}}", "{{text}}"]')
        if shutil.which(self.argv[0]) is None:
            raise ValueError(f"there is no program {self.argv[0]!r}; install it or give its path")

    @property
    def fingerprint(self) -> str:
        """Changes with the command line; what the program itself does is not looked at."""
        return key_of("command-1", list(self.argv))

    def speak(self, text: str) -> Audio:
        """Return float32 [T] mono at 16 kHz.

        Raises:
            UnscorableError: the program failed, took too long, or wrote no sound.
        """
        from lt_eval.media.decode import read_audio

        with tempfile.TemporaryDirectory(prefix="lt-eval-say-") as folder:
            out = Path(folder) / "said.wav"
            argv = [word.replace("{out}", str(out)).replace("{text}", text) for word in self.argv]
            writes, takes = any("{out}" in word for word in self.argv), any("{text}" in word for word in self.argv)
            try:
                done = subprocess.run(
                    argv,
                    input=None if takes else text.encode(),
                    stdin=subprocess.DEVNULL if takes else None,
                    stdout=subprocess.DEVNULL if writes else subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    timeout=self.timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise UnscorableError(
                    "speaker_failed", f"{self.argv[0]} did not finish within {self.timeout_s:g} s."
                ) from None
            except OSError as cause:
                raise UnscorableError("speaker_failed", f"{self.argv[0]} cannot be run ({cause.strerror}).") from None
            if done.returncode:
                raise UnscorableError("speaker_failed", f"{self.argv[0]} ended with exit code {done.returncode}.")
            if not writes:
                out.write_bytes(done.stdout)
            try:
                return read_audio(out, SAMPLE_RATE_HZ)
            except LtEvalError:
                raise UnscorableError("speaker_failed", f"{self.argv[0]} wrote no sound that can be read.") from None


@dataclass(frozen=True)
class EspeakSpeaker:
    """espeak-ng, where it is installed (`apt install espeak-ng`).

    Attributes:
        voice: as espeak-ng names it ("en-us", "en-gb+f3"); "" is en-us for the avatar and en-gb for the user.
        words_per_minute: speed.
        role: who is heard, the "avatar" or the "user".
    """

    voice: str = ""
    words_per_minute: int = 165
    role: str = "avatar"
    _command: CommandSpeaker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_role(self.role)
        program = next((name for name in ("espeak-ng", "espeak") if shutil.which(name)), None)
        if program is None:
            raise ValueError("espeak-ng is not installed (apt install espeak-ng); the speaker formant needs nothing")
        if self.voice.startswith("-"):
            raise ValueError(f"voice = {self.voice!r} is no name of a voice")
        voice = self.voice or {"avatar": "en-us", "user": "en-gb"}[self.role]
        argv = (program, "-v", voice, "-s", str(self.words_per_minute), "-w", "{out}", "--stdin")
        object.__setattr__(self, "_command", CommandSpeaker(argv))

    @property
    def fingerprint(self) -> str:
        """Changes with the voice and with the installed program."""
        done = subprocess.run([self._command.argv[0], "--version"], capture_output=True, text=True, check=False)
        return key_of("espeak-1", self._command.argv[2:5], done.stdout.partition("  Data")[0].strip())

    def speak(self, text: str) -> Audio:
        """Return float32 [T] mono at 16 kHz; raises UnscorableError."""
        return self._command.speak(text)


@dataclass(frozen=True)
class Voice:
    """A speaker made for a purpose.

    Attributes:
        speaker: who speaks.
        identity: of the speaker with its options and code.
    """

    speaker: Speaker
    identity: str

    def speak(self, text: str, phonemes: str = "") -> Audio:
        """Say a text, now: a talker's latency holds the time of its voice.

        Args:
            text: what to say.
            phonemes: how, for a speaker that takes a pronunciation; "" leaves it to the speaker.

        Returns:
            float32 [T] mono at 16 kHz.

        Raises:
            UnscorableError: the speaker failed.
        """
        if phonemes and isinstance(self.speaker, SpeaksPhonemes):
            audio = self.speaker.speak_phonemes(phonemes, text)
        else:
            audio = self.speaker.speak(text)
        if audio.ndim != 1 or len(audio) == 0 or not np.isfinite(audio).all():
            raise UnscorableError("speaker_failed", "The speaker gave no finite mono sound [T].")
        return audio

    def keep(self, text: str, phonemes: str = "") -> Path:
        """Return the WAV file of a text, 16 bits, from the cache folder; said now if it is not there.

        Raises:
            UnscorableError: the speaker failed.
            StoreError: the cache cannot be written.
        """
        from lt_eval.media.waves import wav_bytes

        path = cache_dir() / "speech" / f"{key_of('speech-1', self.identity, text, phonemes)}.wav"
        if not path.is_file():
            said = self.speak(text, phonemes)
            with atomic_write(path, "wb") as file:
                file.write(wav_bytes(said))
        return path


def make_voice(name: str, options: Mapping[str, object] | None = None, *, role: str = "avatar") -> Voice:
    """Return the speaker of a registered name (or module:Class). "auto" is espeak-ng where installed, else formant.

    Args:
        name: which.
        options: its keyword arguments.
        role: one of ROLES, offered to the speaker.

    Raises:
        UsageError: no such speaker, or it cannot be made here.
    """
    from lt_eval import fingerprint
    from lt_eval.registry import create

    if name == "auto":
        name = "espeak" if shutil.which("espeak-ng") or shutil.which("espeak") else "formant"
    speaker = create("speakers", name, options or {}, offered={"role": role})
    return Voice(speaker, fingerprint.of_plugin(speaker, name, {**(options or {}), "role": role}))
