"""Folders that are filled over hours: one writer at a time, and a journal that survives a kill in mid-line."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lt_eval.errors import RunBusyError
from lt_eval.store import storage_error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, making the folder if need be; a process that dies lets go of it.

    Raises:
        RunBusyError: another process holds it.
        StoreError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as cause:
        raise storage_error(folder, cause) from cause
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            raise RunBusyError(
                f"{folder}: another lt-eval process is writing here. Wait for it, or choose another folder."
            ) from cause
        yield


def journal(path: Path) -> list[Any]:
    """Return what the whole lines of a JSONL file say, and cut off a last one that was torn; [] without a file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)
    return [json.loads(line) for line in data[:whole].splitlines()]


def note(path: Path, entries: Iterable[object]) -> None:
    """Append entries to a journal, on the disk when this returns.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in entries))
            file.flush()
            os.fsync(file.fileno())
    except OSError as cause:
        raise storage_error(path, cause) from cause
