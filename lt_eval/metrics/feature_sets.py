"""What FID and FVD share: columns named by the network, distances by column, and the key of cached features."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lt_eval.errors import UnscorableError
from lt_eval.metrics.frechet import (
    frechet_distance,
    frechet_floor,
    frechet_infinity,
    frechet_infinity_influence,
    frechet_influence,
)
from lt_eval.metrics.kid import kernel_distance, kernel_floor, kernel_influence
from lt_eval.records import Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lt_eval.interfaces import Influence
    from lt_eval.records import Features

Statistic = Literal["frechet", "kernel", "infinity"]

_DIGITS: Mapping[Statistic, int] = {"frechet": 2, "kernel": 4, "infinity": 2}


@dataclass(frozen=True)
class FeatureDistances:
    """The statistics of two feature sets, by column name.

    Attributes:
        statistics: column name -> what it is.
        ddof: covariances divide by N - ddof.
        seed: of the subsets behind floors and the extrapolation.
    """

    statistics: Mapping[str, Statistic]
    ddof: int = 1
    seed: int = 0

    def columns(self, *, more_digits: int = 0) -> dict[str, Column]:
        """Return what each column means; `more_digits` for networks whose distances are small."""
        return {
            name: Column(
                "lower",
                digits=_DIGITS[kind] + more_digits,
                fixed_by_reference=True,
                minimum=0.0 if kind == "frechet" else None,
            )
            for name, kind in self.statistics.items()
        }

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> dict[str, float]:
        """Return the value of each column; the extrapolation has none where a side has fewer than two clips."""
        few = min(len(generated), len(reference)) < 2
        return {
            name: self._distance(kind, generated, reference)
            for name, kind in self.statistics.items()
            if not (kind == "infinity" and few)
        }

    def _distance(self, kind: Statistic, generated: Sequence[Features], reference: Sequence[Features]) -> float:
        if kind == "kernel":
            return kernel_distance(generated, reference)
        if kind == "infinity":
            return frechet_infinity(generated, reference, ddof=self.ddof, seed=self.seed)
        return frechet_distance(generated, reference, ddof=self.ddof)

    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> dict[str, Influence]:
        """Return each clip's pull on each column that has a value."""
        few = min(len(generated), len(reference)) < 2
        found: dict[str, Influence] = {}
        for name, kind in self.statistics.items():
            if kind == "frechet":
                found[name] = frechet_influence(generated, reference, ddof=self.ddof)
            elif kind == "kernel":
                found[name] = kernel_influence(generated, reference)
            elif not few:
                found[name] = frechet_infinity_influence(generated, reference, ddof=self.ddof, seed=self.seed)
        return found

    def floor(self, reference: Sequence[Features], clips: int) -> dict[str, float]:
        """Return what two samples of the reference's distribution would give.

        Columns without a floor are left out: the extrapolation, which aims at none, and those that need more clips.
        """
        found: dict[str, float] = {}
        for name, kind in self.statistics.items():
            with contextlib.suppress(UnscorableError):
                if kind == "frechet":
                    found[name] = frechet_floor(reference, clips, ddof=self.ddof, seed=self.seed)
                elif kind == "kernel":
                    found[name] = kernel_floor(reference, clips)
        return found


def feature_key(*facts: object, sources: Sequence[str]) -> str:
    """Return a digest of what features depend on: the facts given, and the code of the files named.

    Args:
        facts: weights, preprocessing, window length ... anything with a stable repr.
        sources: paths of code relative to this folder.
    """
    digest = hashlib.sha256(repr(facts).encode())
    for source in sources:
        digest.update((Path(__file__).parent / source).read_bytes())
    return digest.hexdigest()[:32]


def check_choice(option: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ValueError: names the option, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{option} is {value!r}; the rule is one of {', '.join(map(repr, choices))}.")
