"""Is the judge any good? Finished conversations are spoilt in ways whose effect is known, and judged again.

Each spoiling must lower the dimensions that it aims at, on average over the conversations; what happens to the others
is shown beside. A judge that fails one of them cannot be trusted with that dimension.

    blank       every video is black of the same length                         NI EA
    shuffled    the answers are exchanged between the turns                     CU
    swapped     from the second half on, videos of another conversation         MVC
    wrong       the answers' transcripts are those of another conversation      SR
    repeated    every turn is answered with the first answer                    IC
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.errors import UsageError
from lt_eval.judge.scoring import judge
from lt_eval.media.encode import encode
from lt_eval.media.probe import probe
from lt_eval.records import Conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import httpx

    from lt_eval.judge.options import JudgeOptions
    from lt_eval.judge.replies import ReplyStore
    from lt_eval.judge.scoring import Report
    from lt_eval.records import AnsweredTurn, Verdict

TARGETS: Mapping[str, tuple[str, ...]] = {
    "blank": ("NI", "EA"),
    "shuffled": ("CU",),
    "swapped": ("MVC",),
    "wrong": ("SR",),
    "repeated": ("IC",),
}
ORIGINAL = "original"
LEAST_DROP = 0.5
"""Of a five-point scale: what a judge that noticed must take off."""


@dataclass(frozen=True)
class CheckResult:
    """One spoiling and one dimension.

    Attributes:
        check: name of the spoiling.
        dimension: that was compared.
        targeted: whether the spoiling aims at it.
        before: mean score of the conversations as they are.
        after: mean score of the same conversations, spoilt.
        pairs: conversations and repeats that have both scores.
    """

    check: str
    dimension: str
    targeted: bool
    before: float | None
    after: float | None
    pairs: int

    @property
    def passed(self) -> bool:
        """Whether a targeted dimension fell enough; meaningless for others."""
        return self.before is not None and self.after is not None and self.before - self.after >= LEAST_DROP


def check_judge(
    conversations: Sequence[Conversation],
    options: JudgeOptions,
    replies: ReplyStore,
    folder: Path,
    progress: Report | None = None,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
) -> list[CheckResult]:
    """Judge conversations as they are and spoilt, and return every comparison, targeted dimensions first.

    Args:
        conversations: at least two finished ones with two turns and a transcript each, of different people.
        options: of the judge.
        replies: kept as in any other run.
        folder: of the files that spoilt conversations need.
        progress: as in `judge`.
        transport: as in `judge`.

    Raises:
        UsageError: too few usable conversations.
    """
    usable = [item for item in conversations if _usable(item)]
    if len(usable) < 2:
        raise UsageError(
            f"judge check: {len(usable)} of {len(conversations)} conversations have two turns or more, all with video "
            "and transcript. Give at least two, of different people."
        )
    named = [replace(item, method=ORIGINAL, scenario=f"{item.method}/{item.scenario}") for item in usable]
    spoilt = [replace(item, method=name) for name in TARGETS for item in spoil(name, named, folder)]
    verdicts = judge([*named, *spoilt], options, replies, progress, transport=transport)
    return compared(verdicts, options.dimensions)


def spoil(name: str, conversations: Sequence[Conversation], folder: Path) -> list[Conversation]:
    """Return each conversation spoilt in the named way."""
    return [
        replace(item, turns=tuple(_SPOILERS[name](item, _other(number, conversations), folder)))
        for number, item in enumerate(conversations)
    ]


def _other(number: int, conversations: Sequence[Conversation]) -> Conversation:
    """Return the next conversation that is about something else, or else just the next one."""
    later = [*conversations[number + 1 :], *conversations[:number]]
    topic = conversations[number].scenario.partition("/")[2]
    return next((item for item in later if item.scenario.partition("/")[2] != topic), later[0])


def compared(verdicts: Sequence[Verdict], dimensions: Sequence[str]) -> list[CheckResult]:
    """Return the comparisons of every check, from verdicts whose methods are the checks' names and "original"."""
    scores = {(v.method, v.scenario, v.dimension, v.repeat): v.score for v in verdicts if v.score is not None}
    results = []
    for check, targets in TARGETS.items():
        for dimension in dict.fromkeys((*(name for name in targets if name in dimensions), *dimensions)):
            pairs = [
                (scores[(ORIGINAL, *key[1:])], after)
                for key, after in scores.items()
                if key[0] == check and key[2] == dimension and (ORIGINAL, *key[1:]) in scores
            ]
            before = fmean(pair[0] for pair in pairs) if pairs else None
            after = fmean(pair[1] for pair in pairs) if pairs else None
            results.append(CheckResult(check, dimension, dimension in targets, before, after, len(pairs)))
    return results


def _usable(conversation: Conversation) -> bool:
    turns = conversation.turns
    whole = all(turn.video is not None and turn.transcript is not None for turn in turns)
    return conversation.failure is None and len(turns) >= 2 and whole


def _blank(item: Conversation, other: Conversation, folder: Path) -> list[AnsweredTurn]:
    return [replace(turn, video=_black(turn.video, folder)) for turn in item.turns if turn.video is not None]


def _black(video: Path, folder: Path) -> Path:
    info = probe(video)
    path = folder / f"black_{info.width // 2 * 2}x{info.height // 2 * 2}_{info.duration_s:.3f}s.mp4"
    if not path.is_file():
        rate = 4.0  # of a picture that does not move
        frame = np.zeros((1, info.height // 2 * 2, info.width // 2 * 2, 3), np.uint8)
        encode(path, (frame for _ in range(max(2, round(info.duration_s * rate)))), rate)
    return path


def _shuffled(item: Conversation, other: Conversation, folder: Path) -> list[AnsweredTurn]:
    """Answers move on by one turn: none stays, whatever the number of turns."""
    answers = [item.turns[-1], *item.turns[:-1]]
    return [
        replace(turn, video=answer.video, transcript=answer.transcript)
        for turn, answer in zip(item.turns, answers, strict=True)
    ]


def _swapped(item: Conversation, other: Conversation, folder: Path) -> list[AnsweredTurn]:
    half = (len(item.turns) + 1) // 2
    return [
        turn if number < half else replace(turn, video=other.turns[number % len(other.turns)].video)
        for number, turn in enumerate(item.turns)
    ]


def _wrong(item: Conversation, other: Conversation, folder: Path) -> list[AnsweredTurn]:
    words = [turn.transcript for turn in other.turns]
    return [replace(turn, transcript=words[number % len(words)]) for number, turn in enumerate(item.turns)]


def _repeated(item: Conversation, other: Conversation, folder: Path) -> list[AnsweredTurn]:
    first = item.turns[0]
    return [replace(turn, video=first.video, transcript=first.transcript) for turn in item.turns]


_SPOILERS: Mapping[str, Callable[[Conversation, Conversation, Path], list[AnsweredTurn]]] = {
    "blank": _blank,
    "shuffled": _shuffled,
    "swapped": _swapped,
    "wrong": _wrong,
    "repeated": _repeated,
}
