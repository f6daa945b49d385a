"""Both sides of every conversation as text: given, or by a transcriber, and how often that mishears the user."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from lt_eval.registry import create
from lt_eval.report.rounds import TranscriptInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lt_eval.interfaces import Transcriber
    from lt_eval.protocols.rounds_spec import Choice
    from lt_eval.records import Conversation

    Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Transcribed:
    """Conversations with their transcripts, how they were made, and what could not be transcribed."""

    conversations: tuple[Conversation, ...]
    info: TranscriptInfo
    problems: tuple[str, ...] = ()


def check_transcriber(choice: Choice) -> None:
    """Find out whether the transcriber can be made, before hours are spent on what it is to hear.

    Raises:
        UsageError: it cannot.
    """
    create("transcribers", choice.name, choice.options)


def transcribe(conversations: Sequence[Conversation], choice: Choice, progress: Report) -> Transcribed:
    """Return the conversations with what was heard of both sides.

    Args:
        conversations: as the systems gave them; their own words stand in `transcript`.
        choice: "given" takes these words and the scenario's; else a transcriber hears the sound.
        progress: told of every line.

    Raises:
        UsageError: the transcriber cannot be made.
    """
    from lt_eval.judge.transcribe.hearing import hear

    transcriber = cast("Transcriber", create("transcribers", choice.name, choice.options))
    options = json.dumps(dict(choice.options), sort_keys=True, default=str)
    heard = hear(conversations, transcriber, progress, name=f"{choice.name} {options}")
    info = TranscriptInfo(choice.name, _model_of(choice, transcriber), heard.user_errors.rate, heard.user_errors.words)
    return Transcribed(heard.conversations, info, heard.problems)


def _model_of(choice: Choice, transcriber: Transcriber) -> str:
    """Return the id of the model, where the transcriber or its options tell."""
    return str(getattr(transcriber, "model", "") or choice.options.get("model", ""))
