"""Take training material to another machine: drawn and encoded where processors are, used where a GPU is.

    python benchmarks/distill/travel.py pack   ~/.cache/lt-eval/distill/material-0123456789ab material.pack
    python benchmarks/distill/travel.py unpack material.pack ~/.cache/lt-eval

Latents and audio features lie on a grid (`lt_eval.distill.material.GRID`), so differences in time are small integers,
and LZMA packs them to about a fifth. What is unpacked equals what was packed, number for number; it is found again
by a recipe whose codec file has the same bytes.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from people import without_traceback

from lt_eval.distill.material import GRID
from lt_eval.errors import SpecError
from lt_eval.store import atomic_write, write_json

TIME_AXIS = {"latents": 3, "audio": 2}
"""Files of a material folder, and the axis of their frames."""

PEOPLE = 16
"""Whose numbers one process packs at a time."""


def packed(values: NDArray[np.float16]) -> bytes:
    """Return numbers whose last axis is time as bytes."""
    steps = np.round(values.astype(np.float32) * GRID).astype(np.int16)
    change = np.diff(steps, axis=-1, prepend=np.int16(0))
    # low and high bytes apart: the latter are nearly all alike
    halves = np.ascontiguousarray(change, "<i2").view(np.uint8).reshape(-1, 2)
    return lzma.compress(halves.T.tobytes(), preset=4)


def unpacked(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Return what `packed` was given."""
    halves = np.frombuffer(lzma.decompress(data), np.uint8).reshape(2, -1)
    change = np.ascontiguousarray(halves.T).view("<i2").reshape(shape)
    return (np.cumsum(change, axis=-1, dtype=np.int32) / GRID).astype(np.float16)


def _unpacked(given: tuple[bytes, tuple[int, ...]]) -> NDArray[np.float16]:
    return unpacked(*given)


def pack(home: Path, out: Path) -> None:
    """Write a material folder as a folder of packed files.

    Raises:
        SpecError: the folder holds no whole material.
    """
    if not (home / "people.json").is_file():
        raise SpecError(
            f"{home} holds no training material that is whole. Give a folder material-... of CACHE/distill that a "
            "teacher was trained on."
        )
    about: dict[str, Any] = {"home": home.name, "people": json.loads((home / "people.json").read_text())}
    with ProcessPoolExecutor(os.cpu_count()) as crew:
        for name, axis in TIME_AXIS.items():
            array = np.load(home / f"{name}.npy", mmap_mode="r")
            parts = [
                np.moveaxis(np.array(array[first : first + PEOPLE]), axis, -1) for first in range(0, len(array), PEOPLE)
            ]
            about[name] = {"shape": array.shape, "parts": [part.shape for part in parts]}
            for number, data in enumerate(crew.map(packed, parts)):
                with atomic_write(out / f"{name}.{number}.xz", "wb") as file:
                    file.write(data)
    write_json(out / "about.json", about)


def unpack(source: Path, cache: Path) -> Path:
    """Write the material folder that `pack` was given below a cache folder; return it.

    Raises:
        SpecError: the folder is not what `pack` writes.
    """
    if not (source / "about.json").is_file():
        raise SpecError(f"{source} is no folder that travel.py pack wrote: it has no about.json.")
    about = json.loads((source / "about.json").read_text())
    home: Path = cache / "distill" / about["home"]
    home.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as crew:
        for name, axis in TIME_AXIS.items():
            known = about[name]
            whole = np.lib.format.open_memmap(home / f"{name}.npy", "w+", np.float16, tuple(known["shape"]))
            files = ((source / f"{name}.{number}.xz").read_bytes() for number in range(len(known["parts"])))
            first = 0
            for part in crew.map(_unpacked, zip(files, map(tuple, known["parts"]), strict=True)):
                whole[first : first + len(part)] = np.moveaxis(part, -1, axis)
                first += len(part)
            whole.flush()
    write_json(home / "people.json", about["people"])  # last: it says that the others are whole
    return home


def main() -> int:
    """Pack or unpack."""
    return without_traceback(carried)


def carried() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    if given.what == "pack":
        pack(given.source, given.target)
        print(f"{sum(file.stat().st_size for file in given.target.iterdir()) / 1e6:.1f} MB in {given.target}")
    else:
        print(unpack(given.source, given.target))
    return 0


if __name__ == "__main__":
    sys.exit(main())
