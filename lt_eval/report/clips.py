"""The clips of a report: linked or copied into its folder, under names that are safe in a path and in a URL."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lt_eval.store import storage_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lt_eval.report.runs import Run

ClipKey = tuple[str, str, int]
"""Method, sample, turn."""

REFERENCE = "reference"
"""The folder of clips that methods are compared with."""


def sources(run: Run) -> dict[ClipKey, Path]:
    """Return the clip file of each method, sample and turn, and of the references under the method REFERENCE."""
    found: dict[ClipKey, Path] = {}
    for row in run.rows:
        if row.clip:
            found.setdefault((row.method, row.sample, row.turn), _absolute(run, row.clip))
        if reference := row.details.get("reference"):
            found.setdefault((REFERENCE, row.sample, row.turn), _absolute(run, str(reference)))
    return found


def place(found: Mapping[ClipKey, Path], out: Path, under: str) -> dict[ClipKey, str]:
    """Put the clips into out/under/METHOD/SAMPLE.mp4 and return their paths relative to `out`.

    A file is hard-linked where the file system allows it and copied elsewhere; one that is there already is kept, and
    one whose source is gone or may not be read is left out.

    Raises:
        StoreError: the folder cannot be written.
        StorageFullError: the disk is full.
    """
    placed: dict[ClipKey, str] = {}
    by_source: dict[Path, str] = {}
    taken: set[str] = set()
    folders: dict[str, str] = {}
    for key, source in found.items():
        method, sample, turn = key
        if source in by_source:
            placed[key] = by_source[source]
        if source in by_source or not os.access(source, os.R_OK) or not source.is_file():
            continue
        folder = folders.get(method) or _free(safe_name(method), set(folders.values()), "")
        folders[method] = folder
        stem = safe_name(sample) + (f"-turn{turn + 1}" if turn else "")
        name = _free(f"{under}/{folder}/{stem}", taken, source.suffix.lower())
        taken.add(name)
        _link_or_copy(source, out / name)
        placed[key] = by_source[source] = name
    return placed


def safe_name(name: str) -> str:
    """Return a name of letters, digits, dots, dashes and underscores that is no hidden file and no parent folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:80] or "_"


def _absolute(run: Run, path: str) -> Path:
    inside = run.folder / path
    return inside if inside.is_file() else Path(path).absolute()


def _free(stem: str, taken: set[str], suffix: str) -> str:
    """Return a name that no other has, on file systems that ignore case too."""
    folded = {name.casefold() for name in taken}
    number, name = 1, stem + suffix
    while name.casefold() in folded:
        number += 1
        name = f"{stem}-{number}{suffix}"
    return name


def _link_or_copy(source: Path, target: Path) -> None:
    temporary: Path | None = None
    try:
        if target.is_file() and _same(source, target):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".clip-")) / target.name
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            shutil.copy2(source, temporary)
        temporary.replace(target)
    except OSError as cause:
        raise storage_error(target, cause) from cause
    finally:
        if temporary is not None:
            shutil.rmtree(temporary.parent, ignore_errors=True)


def _same(source: Path, target: Path) -> bool:
    one, other = source.stat(), target.stat()
    return source.samefile(target) or (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
