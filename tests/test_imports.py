"""What an import brings along. Each is looked at in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lt_eval

HEAVY = ("torch", "numpy", "scipy", "pandas", "cv2", "av", "matplotlib", "PIL", "jinja2", "httpx", "ray", "decord")
NOT_BY_THE_COMMAND_LINE = ("torch", "cv2", "scipy", "pandas", "av", "matplotlib", "ray", "vllm", "funasr", "decord")
PACKAGE = Path(lt_eval.__file__).parent
MODULES = sorted(
    ".".join(("lt_eval", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
NETWORKS = ("lt_eval.metrics.nets.", "lt_eval.generator.", "lt_eval.distill.")


IMPORT = """
import importlib, json, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_after(*modules: str) -> list[set[str]]:
    """Return the top-level packages that are loaded after the import of each module, all in one process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT, *modules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_the_package_itself_imports_nothing_heavy() -> None:
    (loaded,) = loaded_after("lt_eval")
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("module", ["errors", "records", "interfaces", "registry", "spec", "execution"])
def test_the_lower_layers_need_no_arrays(module: str) -> None:
    (loaded,) = loaded_after(f"lt_eval.{module}")
    assert not loaded & set(HEAVY)


def test_the_command_line_starts_without_what_a_run_needs() -> None:
    (loaded,) = loaded_after("lt_eval.cli")
    assert not loaded & set(NOT_BY_THE_COMMAND_LINE)


def test_only_networks_import_torch() -> None:
    modules = [module for module in MODULES if not module.startswith(NETWORKS) and module != "lt_eval.__main__"]
    assert len(modules) > 20
    loaded = loaded_after(*modules)
    guilty = [module for module, packages in zip(modules, loaded, strict=True) if "torch" in packages]
    assert not guilty[:1], "brings torch along"


def test_array_types_are_real_at_run_time_and_misspelt_ones_are_refused() -> None:
    import numpy as np
    from numpy.typing import NDArray

    from lt_eval import records

    assert records.Audio == records.Features == NDArray[np.float32]
    assert records.Frames == NDArray[np.uint8]
    with pytest.raises(AttributeError, match="Framse"):
        records.Framse  # type: ignore[attr-defined]  # noqa: B018
