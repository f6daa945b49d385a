"""Transcripts of whole conversations, each sound heard once whatever the number of runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lt_eval.errors import NoAudioError, SampleError, StoreError
from lt_eval.fingerprint import of_plugin
from lt_eval.judge.transcribe.given import Given
from lt_eval.judge.transcribe.paraformer import FunASR
from lt_eval.judge.transcribe.wer import WordErrors, total, word_errors
from lt_eval.media.decode import read_audio
from lt_eval.paths import cache_dir
from lt_eval.store import key_of, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lt_eval.interfaces import Transcriber
    from lt_eval.records import AnsweredTurn, Audio, Conversation

    Report = Callable[[str, int, int, str], None]

STAGE = "transcribe"


@dataclass(frozen=True)
class Heard:
    """What came of listening.

    Attributes:
        conversations: with `user_transcript` and `transcript` filled in where something could be heard.
        user_errors: of the user's lines that were spoken, against their known text.
        problems: "METHOD SCENARIO turn N, user or assistant: why" of every sound that could not be transcribed.
    """

    conversations: tuple[Conversation, ...]
    user_errors: WordErrors
    problems: tuple[str, ...] = ()


class TranscriptCache:
    """Transcripts on disk, one small file each, keyed by the sound and everything about the recogniser.

    Args:
        transcriber: whose they are.
        name: under which it was made, for plugins without a fingerprint of their own.
        folder: of the files; None is the cache folder.
    """

    def __init__(self, transcriber: Transcriber, name: str = "", folder: Path | None = None) -> None:
        self._transcriber = transcriber
        self._folder = folder or cache_dir() / "transcripts"
        self._fingerprint = of_plugin(transcriber, name, {})

    def transcribe(self, audio: Audio) -> str:
        """Return the words of float32 [T] mono 16 kHz audio; raises as the transcriber does."""
        sound = hashlib.sha256(audio.astype("<f4").tobytes()).hexdigest()
        path = self._folder / f"{key_of(sound, self._fingerprint)}.json"
        if path.is_file():
            try:
                return str(read_json(path)["text"])
            except (StoreError, KeyError):
                path.unlink(missing_ok=True)
        text = self._transcriber.transcribe(audio)
        write_json(path, {"text": text, "sound": sound, "transcriber": self._fingerprint})
        return text


def hear(
    conversations: Sequence[Conversation],
    transcriber: Transcriber,
    progress: Report | None = None,
    *,
    name: str = "",
    folder: Path | None = None,
) -> Heard:
    """Return conversations with what was heard of both sides.

    A silent or absent soundtrack of an answer is nothing heard, "". A sound that the transcriber fails on stays None
    and is a problem. `Given` hears nothing: the user's lines are those of the scenario, the answers' words those that
    the system stated, and no error is counted.

    Args:
        conversations: of all methods.
        transcriber: what hears.
        progress: called with (stage, done, in all, what was done last).
        name: of the transcriber, for the cache key of a plugin.
        folder: of the cache; None is the cache folder.

    Raises:
        UsageError: the transcriber cannot be used at all.
    """
    if isinstance(transcriber, Given):
        return Heard(tuple(map(_stated, conversations)), WordErrors())
    try:
        return _heard(conversations, TranscriptCache(transcriber, name, folder), progress)
    finally:
        if isinstance(transcriber, FunASR):
            transcriber.close()  # its process holds a gigabyte; the next sound starts another


def _heard(conversations: Sequence[Conversation], cache: TranscriptCache, progress: Report | None) -> Heard:
    heard: list[Conversation] = []
    problems: list[str] = []
    errors: dict[tuple[str, Path | None], WordErrors] = {}  # a line that several systems were asked counts once
    for number, conversation in enumerate(conversations, 1):
        turns = []
        for index, turn in enumerate(conversation.turns, 1):
            where = f"{conversation.method} {conversation.scenario} turn {index}"
            user = _words(cache, turn.user_audio, f"{where}, user", problems)
            answer = _words(cache, turn.video, f"{where}, assistant", problems)
            if user is not None:
                errors[turn.user_text, turn.user_audio] = word_errors(turn.user_text, user)
            turns.append(replace(turn, user_transcript=user, transcript=answer))
        heard.append(replace(conversation, turns=tuple(turns)))
        if progress is not None:
            progress(STAGE, number, len(conversations), f"{conversation.method} {conversation.scenario}")
    return Heard(tuple(heard), total(errors.values()), tuple(problems))


def _words(cache: TranscriptCache, path: Path | None, where: str, problems: list[str]) -> str | None:
    if path is None:
        return None
    try:
        return cache.transcribe(read_audio(path))
    except NoAudioError:
        return ""
    except SampleError as error:
        problems.append(f"{where}: {error}")
        return None


def _stated(conversation: Conversation) -> Conversation:
    turns: list[AnsweredTurn] = [replace(turn, user_transcript=turn.user_text) for turn in conversation.turns]
    return replace(conversation, turns=tuple(turns))
