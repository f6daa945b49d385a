"""The public code that our networks are compared with, where `benchmarks/parity/fid_fvd.py` has put it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "parity" / "fid_fvd.py"


def parity_script() -> ModuleType:
    """Return the script as a module; skip where its packages were not installed."""
    spec = importlib.util.spec_from_file_location("parity_fid_fvd", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules.get(spec.name) or importlib.util.module_from_spec(spec)
    if spec.name not in sys.modules:
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    if not (module.default_packages() / "installed.txt").is_file():
        pytest.skip("the public packages are not here; run once: python benchmarks/parity/fid_fvd.py")
    return module
