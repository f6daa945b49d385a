"""Both sides of every conversation as text: given, or by a transcriber, and how often that mishears the user."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lt_eval.protocols.rounds_spec import GIVEN
from lt_eval.report.rounds import TranscriptInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lt_eval.protocols.rounds_spec import Choice
    from lt_eval.records import Conversation

    Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Transcribed:
    """Conversations with their transcripts, how they were made, and what could not be transcribed."""

    conversations: tuple[Conversation, ...]
    info: TranscriptInfo
    problems: tuple[str, ...] = ()


def transcribe(conversations: Sequence[Conversation], choice: Choice, progress: Report) -> Transcribed:
    """Return the conversations with what was heard of both sides.

    Args:
        conversations: as the systems gave them; their own words stand in `transcript`.
        choice: "given" takes these words and the scenario's; else a transcriber hears the sound.
        progress: told of every line.

    Raises:
        UsageError: the transcriber cannot be made.
    """
    if choice.name == GIVEN:
        return Transcribed(tuple(map(_given, conversations)), TranscriptInfo(GIVEN))
    raise NotImplementedError


def _given(conversation: Conversation) -> Conversation:
    turns = tuple(replace(turn, user_transcript=turn.user_text) for turn in conversation.turns)
    return replace(conversation, turns=turns)
