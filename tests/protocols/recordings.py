"""Data sets and a metric that are unlike what most users bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_eval.interfaces import Clip
from lt_eval.records import Column, Dialogue, Features, Turn


class Recordings:
    """Two dialogues without a reference clip."""

    version = "1"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int, /) -> Dialogue:
        return Dialogue("xy"[index], (Turn(text="hello"),))


@dataclass(frozen=True)
class Odd:
    """Dialogues that no run can take."""

    kind: str

    version = "1"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int, /) -> Dialogue:
        name = {"climb": f"../x{index}", "twice": "x"}.get(self.kind, f"x{index}")
        return Dialogue(name, () if self.kind == "turnless" else (Turn(),))

    @property
    def methods(self) -> Mapping[str, Path]:
        """A method that has the name of the references."""
        return {"ground-truth" if self.kind == "taken" else "m": Path()}


@dataclass(frozen=True)
class OddDistance:
    """A set metric whose distance is no plain number."""

    kind: str = ""

    columns = {"odd": Column("lower", fixed_by_reference=True)}

    def features(self, clip: Clip) -> Features:
        """Return float32 [T, 1]."""
        means: Features = clip.frames.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]
        return means

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Any]:
        """Return what `kind` asks for."""
        if self.kind == "raise":
            raise ZeroDivisionError("a bug")
        return {"nan": {"odd": float("nan")}, "partial": {}}.get(self.kind, {"odd": np.float32(1)})
