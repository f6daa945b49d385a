"""Which verdicts are missing because of the judge, and what a report does about them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lt_eval.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.records import Verdict

JUDGE_FAILURES = ("parse_error", "truncated", "refused", "transport_error")
"""What the judge, not the method, is to blame for; a report must not pass over it."""


def unresolved(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that the judge failed to give."""
    return [verdict for verdict in verdicts if verdict.status in JUDGE_FAILURES]


def refuse_unresolved(verdicts: Sequence[Verdict]) -> None:
    """Stop a report whose judge failed somewhere.

    Raises:
        SpecError: with the counts.
    """
    missing = unresolved(verdicts)
    if missing:
        counts = Counter(verdict.status for verdict in missing)
        found = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        raise SpecError(
            f"{len(missing)} of {len(verdicts)} verdicts are missing because of the judge ({found}). Run the command "
            "again: only these are asked. --allow-missing reports without them and prints the coverage."
        )
