"""From kept replies to a verdict. Pure: no server, no clock, so a better parser reads old replies again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lt_eval.judge.rubric import UnparsableError

if TYPE_CHECKING:
    from lt_eval.judge.replies import Reply
    from lt_eval.judge.rubric import ScoreFormat

LEAST_MASS = 0.95
"""Probability that the offered scores must have together; a server that ignores the constraint spreads it elsewhere."""

BOX = "\\boxed{"


@dataclass(frozen=True)
class Reading:
    """What one reply comes to.

    Attributes:
        status: ok, parse_error, truncated or refused.
        score: where ok.
        rationale: the text before the score, or all of it where there is none.
        message: why not ok.
        expected: mean of the scale under the judge's probabilities, where they were asked for and make sense.
    """

    status: Literal["ok", "parse_error", "truncated", "refused"]
    score: float | None = None
    rationale: str = ""
    message: str = ""
    expected: float | None = None

    @property
    def repairable(self) -> bool:
        """Whether another seed may help. A refusal is an answer; asking again would select among answers."""
        return self.status in ("parse_error", "truncated")


def read_reply(reply: Reply, form: ScoreFormat, *, score_wanted: bool = True) -> Reading:
    """Return what a reply comes to.

    Args:
        reply: of the judge.
        form: of the score.
        score_wanted: False reads the first of two steps, of which the rationale alone is needed.
    """
    text = reply.text
    if reply.refusal:
        return Reading("refused", None, text.strip(), f"the judge refused: {reply.refusal[:200]}")
    if reply.finish_reason == "length":
        return Reading("truncated", None, text.strip(), "the reply reached max_tokens: a loop, or the cap is too low")
    if not score_wanted:
        return Reading("ok", None, rationale_of(text))
    try:
        score, rationale = form.parse(text)
    except UnparsableError as error:
        return Reading("parse_error", None, text.strip(), str(error))
    return Reading("ok", score, rationale)


def rationale_of(text: str) -> str:
    """Return a reply's text before its last box."""
    return text.rpartition("\\boxed")[0].strip() if "\\boxed" in text else text.strip()


def read_choice(reply: Reply, form: ScoreFormat, rationale: str) -> Reading:
    """Return what the second of two steps comes to: one score out of the offered ones, and its expectation.

    The constraint is never trusted: servers that do not know the option ignore it in silence.
    """
    word = reply.text.strip()
    if reply.refusal:
        return Reading("refused", None, rationale, f"the judge refused: {reply.refusal[:200]}")
    if word not in form.choices:
        message = f"asked for one of {', '.join(form.choices)}, the server gave {word[:40]!r}: it ignores constraints"
        return Reading("parse_error", None, rationale, message)
    return Reading("ok", float(word), rationale, expected=expectation(reply.logprobs, form))


def expectation(logprobs: dict[str, float], form: ScoreFormat) -> float | None:
    """Return the mean score under a judge's probabilities; None where the scores have too little of them.

    G-Eval (Liu et al. 2023), with the probabilities of the scores renormalised to one.
    """
    mass: dict[str, float] = {}
    for token, logprob in logprobs.items():
        if token.strip() in form.choices:
            mass[token.strip()] = mass.get(token.strip(), 0.0) + math.exp(logprob)
    total = sum(mass.values())
    if total < LEAST_MASS:
        return None
    return sum(int(word) * share for word, share in mass.items()) / total
