"""Word error rate: substitutions, deletions and insertions of the best alignment, over the words that were said.

Both texts are compared without case and punctuation; apostrophes inside words stay. Numbers are not spelt out: "7" and
"seven" differ, and so they do in most published figures. Pooled over lines, not averaged: long lines weigh more.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = re.compile(r"\w+(?:'\w+)*")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})


@dataclass(frozen=True)
class WordErrors:
    """Counts of one line, or of many added up.

    Attributes:
        words: that were said.
        substitutions: words heard as others.
        deletions: words not heard.
        insertions: words heard that were not said.
        lines: how many lines.
    """

    words: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    lines: int = 0

    @property
    def errors(self) -> int:
        """All errors together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors over words said; may exceed 1, and is None where nothing was said."""
        return self.errors / self.words if self.words else None

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.lines + other.lines,
        )


def words_of(text: str) -> list[str]:
    """Return the words that are compared."""
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold().replace("_", " ")
    return _WORD.findall(plain)


def word_errors(said: str, heard: str) -> WordErrors:
    """Return the fewest errors that turn what was said into what was heard.

    Of alignments with equally few errors, the one with more substitutions counts (a substitution before a deletion and
    an insertion apart). Levenshtein 1966; time and memory grow with the product of the lengths.
    """
    reference, hypothesis = words_of(said), words_of(heard)
    # cell: (errors, deletions + insertions, deletions, insertions); the least one wins
    above = [(number, number, 0, number) for number in range(len(hypothesis) + 1)]
    for row, word in enumerate(reference, 1):
        line = [(row, row, row, 0)]
        for column, other in enumerate(hypothesis, 1):
            across, up, left = above[column - 1], above[column], line[-1]
            line.append(
                min(
                    across if word == other else (across[0] + 1, *across[1:]),
                    (up[0] + 1, up[1] + 1, up[2] + 1, up[3]),
                    (left[0] + 1, left[1] + 1, left[2], left[3] + 1),
                )
            )
        above = line
    errors, gaps, deletions, insertions = above[-1]
    return WordErrors(len(reference), errors - gaps, deletions, insertions, 1)


def total(errors: Iterable[WordErrors]) -> WordErrors:
    """Return the counts of many lines added up."""
    return sum(errors, WordErrors())
