"""These tests need the packages of benchmarks/environments/full.txt: `make test-full` runs them."""

from __future__ import annotations

import importlib.util

import pytest


def require(*names: str) -> None:
    """Skip the module that calls this where a package is not installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}; run: make test-full", allow_module_level=True)
