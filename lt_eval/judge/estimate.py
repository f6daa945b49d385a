"""What judging will cost before it is spent: requests, tokens with and without the prefix cache, hours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from lt_eval.errors import MediaError
from lt_eval.judge.canonical import ClipRules
from lt_eval.judge.prompt import SYSTEM, transcript_of
from lt_eval.judge.rubric import load_rubrics
from lt_eval.media.probe import probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.judge.options import JudgeOptions
    from lt_eval.records import Conversation

CHARACTERS_A_TOKEN = 4.0
TOKENS_A_PAIR = 9
"""Beside its pictures, a pair of frames takes a timestamp and two marks."""

TOKENS_AROUND = 120
"""Chat template, headings and marks of one request."""

WORDS_A_SECOND = 2.5
TOKENS_A_WORD = 1.4


@dataclass(frozen=True)
class Shape:
    """How much of a conversation there is: tokens of its videos and of its transcript."""

    video_tokens: int
    transcript_tokens: int


@dataclass(frozen=True)
class Estimate:
    """What a run of the judge comes to. Repairs are not in it.

    Attributes:
        conversations: that can be judged.
        requests: to the server.
        prompt_tokens: of all requests.
        computed_tokens: of those, what a prefix cache leaves to compute.
        answer_tokens: written by the judge.
        longest: tokens of the largest request with its answer: what --max-model-len must hold.
        hours: at the rates given; None without them.
    """

    conversations: int
    requests: int
    prompt_tokens: int
    computed_tokens: int
    answer_tokens: int
    longest: int
    hours: float | None = None


def shape_of(conversation: Conversation, rules: ClipRules) -> Shape | None:
    """Return a conversation's shape, or None where a video is missing or unreadable."""
    videos = 0
    for turn in conversation.turns:
        if turn.video is None:
            return None
        try:
            info = probe(turn.video)
        except MediaError:
            return None
        frames = rules.count(Fraction(info.duration_s), info.frames)
        videos += _video_tokens(rules, frames, info.width, info.height)
    return Shape(videos, _tokens(transcript_of(conversation)))


def typical_shape(rules: ClipRules, turns: int, seconds: float) -> Shape:
    """Return the shape of a conversation that is not made yet: square videos of `seconds` each, spoken throughout."""
    frames = rules.count(Fraction(seconds), math.ceil(seconds * 24))
    spoken = 1.3 * seconds * WORDS_A_SECOND * TOKENS_A_WORD  # the user's line is about a third of the answer
    return Shape(turns * _video_tokens(rules, frames, 1, 1), math.ceil(turns * (spoken + 30)))


def estimate(
    shapes: Sequence[Shape],
    options: JudgeOptions,
    *,
    answer_tokens: int = 220,
    prefill_per_s: float | None = None,
    decode_per_s: float | None = None,
) -> Estimate:
    """Return what judging conversations of these shapes comes to.

    Args:
        shapes: one a conversation.
        options: how they are judged.
        answer_tokens: of one reply.
        prefill_per_s: prompt tokens a second that the servers compute, all together.
        decode_per_s: answer tokens a second that they write, all together.
    """
    rubrics = [_tokens(rubric.text) for rubric in load_rubrics(options.prompts, options.dimensions).values()]
    two_steps = options.scoring == "two-step"
    prompt = computed = longest = 0
    for shape in shapes:
        prefix = TOKENS_AROUND + _tokens(SYSTEM) + shape.video_tokens + shape.transcript_tokens
        whole = sum(prefix + rubric for rubric in rubrics) * options.repeats
        again = sum(prefix + rubric + answer_tokens for rubric in rubrics) * options.repeats if two_steps else 0
        prompt += whole + again
        longest = max(longest, prefix + max(rubrics) + options.max_tokens)
        if options.order == "rubric-last":
            computed += prefix + sum(rubrics)
        else:
            computed += sum(prefix + rubric for rubric in rubrics)
        computed += answer_tokens * len(rubrics) * options.repeats if two_steps else 0
    asked = len(shapes) * len(rubrics) * options.repeats
    answers = asked * (answer_tokens + two_steps)
    hours = None
    if prefill_per_s and decode_per_s:
        hours = (computed / prefill_per_s + answers / decode_per_s) / 3600
    return Estimate(len(shapes), asked * (1 + two_steps), prompt, computed, answers, longest, hours)


def _video_tokens(rules: ClipRules, frames: int, width: int, height: int) -> int:
    columns, rows = (side // rules.grid_px for side in rules.size(width, height))
    return math.ceil(frames / 2) * (columns * rows + TOKENS_A_PAIR)


def _tokens(text: str) -> int:
    return math.ceil(len(text) / CHARACTERS_A_TOKEN)
