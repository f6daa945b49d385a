"""The public code that our networks are compared with, where the scripts in `benchmarks/parity` have put it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "parity"


def parity_script(name: str = "fid_fvd") -> ModuleType:
    """Return a script as a module; skip where its packages were not installed."""
    if str(SCRIPTS) not in sys.path:  # as when they are run, they import what lies beside them
        sys.path.append(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location(f"parity_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.get(spec.name) or importlib.util.module_from_spec(spec)
    if spec.name not in sys.modules:
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    if not (module.default_packages() / "installed.txt").is_file():
        pytest.skip(f"the public packages are not here; run once: python benchmarks/parity/{name}.py")
    return module
