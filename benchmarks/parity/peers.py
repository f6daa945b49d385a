"""What the scripts that compare our networks with public ones share: installing, comparing, reporting."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

LIMIT = 1e-4


@dataclass(frozen=True)
class Comparison:
    """Largest difference of one pair, how large the values are, and their time over ours where it was taken."""

    name: str
    max_abs_difference: float
    limit: float
    values_mean_abs: float
    shape: tuple[int, ...]
    time_ratio: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the difference is within its limit and the values are neither nothing nor all clipped to one."""
        return self.max_abs_difference <= self.limit and self.values_mean_abs > 1e-2 and self.values_mean_abs != 1


def compare(
    name: str, ours: Tensor, theirs: Tensor, limit: float = LIMIT, time_ratio: float | None = None
) -> Comparison:
    """Return the comparison of two tensors of equal shape."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"{name}: shapes differ, {tuple(ours.shape)} here and {tuple(theirs.shape)} there")
    difference = float((ours - theirs).abs().max())
    return Comparison(name, difference, limit, float(theirs.abs().mean()), tuple(ours.shape), time_ratio)


DIFFUSERS = ("diffusers==0.42.1", "einops==0.8.1")


def install(folder: Path, packages: Sequence[str], *, alone: bool = False) -> Path:
    """Put public packages into a folder, once.

    Args:
        folder: to be appended to the path, so that torch and numpy stay those of this environment.
        packages: with exact versions.
        alone: whether what they need is left out; torch is among the needs of some.
    """
    marker = folder / "installed.txt"
    if not marker.is_file() or marker.read_text().split() != list(packages):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(folder)]
        subprocess.run([*command, *(["--no-deps"] if alone else []), *packages], check=True, stdout=sys.stderr)
        marker.write_text("\n".join(packages))
    return folder


def report(comparisons: Sequence[Comparison]) -> int:
    """Print a line each for a person and one line of JSON; return 1 where a limit does not hold."""
    width = max(len(found.name) for found in comparisons)
    for found in comparisons:
        ratio = f", {found.time_ratio:.2f} times our processor time" if found.time_ratio else ""
        values = f"limit {found.limit:.0e}, mean |value| {found.values_mean_abs:.3f}, {found.shape}"
        found_out = f"{found.name:{width}} max abs difference {found.max_abs_difference:.2e} ({values}){ratio}"
        print("ok  " if found.holds else "FAIL", found_out, file=sys.stderr)
    print(json.dumps([asdict(found) for found in comparisons]))
    return 0 if all(found.holds for found in comparisons) else 1
