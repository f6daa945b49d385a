"""The scripts of benchmarks/, as modules."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(folder: str, name: str) -> ModuleType:
    """Return benchmarks/FOLDER/NAME.py; it finds the scripts beside it, as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS / folder))
        return importlib.import_module(name)
