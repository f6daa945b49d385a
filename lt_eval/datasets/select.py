"""Which candidates become clips, and where in them: fixed by the seed and the ids alone.

Candidates are ranked by sha256 of "seed:id". Two machines that hold the same candidates therefore choose the same clips
whatever their file systems, Python versions or random generators; and a candidate that is missing on one of them lets
the next in rank move up and changes nothing else. A start is drawn in the same way.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from lt_eval.datasets.candidates import Candidate


def ranked(candidates: Iterable[Candidate], seed: int) -> list[Candidate]:
    """Return the candidates in the order in which they are tried."""
    return sorted(candidates, key=lambda candidate: (_draw(seed, candidate.id), candidate.id))


def start_within(candidate: Candidate, seconds: float, seed: int) -> float:
    """Return where a segment of `seconds` starts in the candidate's file: uniform, to the millisecond."""
    room_s = max(0.0, candidate.end_s - candidate.start_s - seconds)
    fraction = int(_draw(seed, f"{candidate.id}:start")[:13], 16) / 16**13  # 52 bits: exact in a float
    return candidate.start_s + math.floor(fraction * room_s * 1000) / 1000


def choose(
    candidates: Sequence[Candidate], wanted: int, accept: Callable[[Candidate], bool], *, spread: bool
) -> list[Candidate]:
    """Walk down the ranking until `wanted` candidates are accepted.

    Args:
        candidates: in rank order.
        wanted: how many.
        accept: tries a candidate; False passes it over for good.
        spread: take a second clip of a person only when every person has one, and so on.
    """
    chosen: list[Candidate] = []
    of_person: Counter[str] = Counter()
    waiting, limit = list(candidates), 1
    while waiting and len(chosen) < wanted:
        later = []
        for candidate in waiting:
            if len(chosen) == wanted:
                break
            if spread and of_person[candidate.person] >= limit:
                later.append(candidate)
            elif accept(candidate):
                chosen.append(candidate)
                of_person[candidate.person] += 1
        waiting, limit = later, limit + 1
    return chosen


def _draw(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
