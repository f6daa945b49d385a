"""How many threads numerical libraries use, whether they are imported yet or not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
"""What numpy, scipy, torch and OpenCV read once, when they are imported."""

OPENBLAS_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def set_threads(threads: int) -> None:
    """Limit this process to `threads` numerical threads, in libraries loaded already and in those loaded later.

    Imports nothing: libraries that come later (torch, numpy, cv2) read the environment; those that are here and no
    longer look there are told. More threads than cores are not to be had from those that come later.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(threads)
    for package in ("numpy", "scipy"):
        if package in sys.modules:
            _limit_openblas(package, threads)


def _limit_openblas(package: str, threads: int) -> None:
    """Tell the OpenBLAS inside a wheel's own library folder, which has no Python function for it."""
    home = Path(str(sys.modules[package].__file__)).parent
    for library in (*home.parent.glob(f"{package}.libs/*openblas*"), *home.glob(".dylibs/*openblas*")):
        with contextlib.suppress(OSError):
            loaded = ctypes.CDLL(str(library))
            for setter in OPENBLAS_SETTERS:
                if hasattr(loaded, setter):
                    getattr(loaded, setter)(ctypes.c_int(threads))
