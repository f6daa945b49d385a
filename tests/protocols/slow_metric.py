"""A metric that takes long enough to be killed in the middle of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from lt_eval.records import Column, Sample


@dataclass(frozen=True)
class SlowMean:
    """Mean brightness, slowly."""

    columns = {"mean": Column("neither")}

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Return the mean of all pixels."""
        time.sleep(0.05)
        return {"mean": float(sample.clip.frames.mean())}
