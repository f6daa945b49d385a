"""Small checkpoints in the layout of q-future/one-align, and pictures to score with them."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

from lt_eval.records import Frames

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "parity" / "one_align.py"

SIZES = ((640, 480), (300, 500), (256, 256), (900, 200), (448, 448), (56, 56), (31, 7))
"""Width and height: wide, high, square, at the network's own size, smaller than it, tiny."""


@functools.cache
def one_align_script() -> ModuleType:
    """Return the script that writes the checkpoints as a module."""
    spec = importlib.util.spec_from_file_location("parity_one_align", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(seed: int = 0) -> list[Frames]:
    """Return uint8 RGB [H, W, 3] of every size: waves, edges, some with grain."""
    rng = np.random.default_rng(seed)
    found = []
    for index, (width, height) in enumerate(SIZES):
        y, x = np.mgrid[:height, :width]
        pace = rng.uniform(0.01, 0.2, (3, 2))
        waves = np.stack([90 * np.sin(a * x + b * y) for a, b in pace], axis=2) + rng.uniform(80, 170)
        waves[height // 3 : height // 2, width // 3 : width // 2] += 60
        grain = rng.normal(0, (0, 5, 40)[index % 3], waves.shape)
        found.append((waves + grain).clip(0, 255).astype(np.uint8))
    return found
