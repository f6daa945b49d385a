"""One run folder: what was asked, what came out, and nothing lost when the process is killed.

    results/RUN/
        manifest.json     what was asked: spec, versions, hardware, hashes, seeds, policies
        rows.jsonl        one line per clip and metric, appended and synced; a torn last line is cut off
        features/KEY.npy  per-clip features of set metrics, written before the row that names them
        clips/METHOD/     clips that a generator made in this run
        summary.json      the table as data
        .lock             held while a process writes here

A row is found again by its key, a hash of everything that can change it; a row whose key no longer occurs is ignored.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

from lt_eval.errors import LtEvalError, RunBusyError, StorageFullError, StoreError
from lt_eval.records import Row, Summary

if TYPE_CHECKING:
    from lt_eval.records import Features

LOCK = ".lock"
"""Of a folder: held by the process that writes there."""


def key_of(*parts: object) -> str:
    """Return a hash of JSON-able values; equal exactly when the values are equal."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def storage_error(path: Path, cause: OSError) -> LtEvalError:
    """Return the typed error for a write to `path` that failed."""
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            f"{path}: the disk is full. Everything finished so far is kept: make room and run the same command again."
        )
    remedy = "Check the permissions, or choose another folder."
    if cause.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = "There is a file where a folder is needed: choose another folder."
    return StoreError(f"{path}: cannot be written ({cause.strerror or cause}). {remedy}")


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path` that takes its name on success and vanishes on failure.

    Raises:
        StorageFullError: no room.
        StoreError: not writable.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as cause:
        raise storage_error(path, cause) from cause
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def only_writer(folder: Path, doing: str = "writing here", remedy: str = "choose another folder") -> Iterator[None]:
    """Hold a folder's lock, making the folder if need be; a process that dies lets go of it.

    Args:
        folder: to be locked.
        doing: what the other process is told to be doing.
        remedy: what a user can do instead of waiting.

    Raises:
        RunBusyError: another process holds it.
        StoreError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as cause:
        raise storage_error(folder, cause) from cause
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            raise RunBusyError(f"{folder}: another lt-eval process is {doing}. Wait for it, or {remedy}.") from cause
        yield


def write_json(path: Path, data: object) -> None:
    """Write JSON atomically, for people as well as programs. NaN and infinity are refused."""
    with atomic_write(path) as file:
        json.dump(data, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StoreError: the file is absent or damaged.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise StoreError(f"{path}: cannot be read ({cause.strerror}).") from cause
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise StoreError(f"{path}: not the JSON that lt-eval writes ({cause}). Was it edited?") from cause
    return data


@dataclass(frozen=True)
class FeatureFiles(Sequence["Features"]):
    """Per-clip features on disk, read one clip at a time so that memory does not grow with their number."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Features: ...
    @overload
    def __getitem__(self, index: slice) -> FeatureFiles: ...
    def __getitem__(self, index: int | slice) -> Features | FeatureFiles:
        if isinstance(index, slice):
            return FeatureFiles(self.paths[index])
        import numpy as np

        try:
            features: Features = np.load(self.paths[index], allow_pickle=False)
        except (OSError, ValueError, EOFError) as cause:
            raise StoreError(
                f"{self.paths[index]}: cached features that cannot be read ({cause}). Delete the file, and the run's "
                "command measures that clip again."
            ) from cause
        return features


class RunStore:
    """The writer's view of a run folder. Use it as a context manager: it holds the folder's lock meanwhile.

    A folder that was not there is taken away again where an error comes before anything was kept in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._new = False
        self.rows_path = root / "rows.jsonl"
        self._lock: IO[str] | None = None
        self._rows: IO[str] | None = None

    def __enter__(self) -> RunStore:
        """Take the lock and cut off a torn last line.

        Raises:
            RunBusyError: another process writes here.
            StoreError: the folder cannot be made or written.
        """
        try:
            self._new = not self.root.exists()
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / "features").mkdir(exist_ok=True)
            self._lock = (self.root / ".lock").open("a+", encoding="utf-8")
        except OSError as cause:
            raise storage_error(self.root, cause) from cause
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            self._lock.close()
            raise RunBusyError(
                f"{self.root}: another lt-eval process is writing to this run. Wait for it, or choose another folder."
            ) from cause
        try:
            for left_over in self.root.glob("features/.*.npy.*"):
                left_over.unlink()
            _cut_torn_line(self.rows_path)
            self._rows = self.rows_path.open("a", encoding="utf-8")
        except OSError as cause:
            self._lock.close()
            raise storage_error(self.rows_path, cause) from cause
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        if kind is not None and self._new:
            self._leave_nothing()
        for file in (self._rows, self._lock):
            if file is not None:
                # what a full disk left in the buffer was reported when it was written
                with contextlib.suppress(OSError):
                    file.close()

    def _leave_nothing(self) -> None:
        """Take the folder away if all that it holds is what entering made."""
        held = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}
        made = {"features", ".lock", "rows.jsonl"}
        if held == made and not self.rows_path.stat().st_size:
            shutil.rmtree(self.root, ignore_errors=True)

    def append(self, rows: Iterable[Row], features: Mapping[str, Features]) -> None:
        """Keep one clip's rows; when this returns they survive a crash.

        Raises:
            StorageFullError: no room; the clip counts as not done.
        """
        import numpy as np

        assert self._rows is not None
        for key, array in features.items():
            held = io.BytesIO()
            np.save(held, array, allow_pickle=False)
            with atomic_write(self.features_path(key), "wb") as file:
                file.write(held.getbuffer())  # written by numpy, a full disk would be an error without a number
        lines = "".join(json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        try:
            self._rows.write(lines)
            self._rows.flush()
            os.fsync(self._rows.fileno())
        except OSError as cause:
            raise storage_error(self.rows_path, cause) from cause

    def replace_rows(self, rows: Iterable[Row]) -> None:
        """Leave just these rows in rows.jsonl, in their order: those of earlier settings go."""
        assert self._rows is not None
        with atomic_write(self.rows_path) as file:
            for row in rows:
                file.write(json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
        self._rows.close()
        self._rows = self.rows_path.open("a", encoding="utf-8")

    def features_path(self, key: str) -> Path:
        """Return where the features of one row lie."""
        return self.root / "features" / f"{key}.npy"

    def rows(self) -> dict[str, Row]:
        """Return the finished rows by key. A row whose features are gone is not finished; a later row wins."""
        rows = {row.key: row for row in read_rows(self.root)}
        return {key: row for key, row in rows.items() if not row.features or self.features_path(row.features).is_file()}

    def write_manifest(self, data: Mapping[str, Any]) -> None:
        """Replace manifest.json, and take back the tables of before: they may be of other settings."""
        for old in (self.root / "summary.json", self.root / "report" / "index.html", *self.root.glob("tables/*")):
            old.unlink(missing_ok=True)
        write_json(self.root / "manifest.json", data)

    def write_summary(self, summary: Summary) -> None:
        """Replace summary.json."""
        write_json(self.root / "summary.json", summary.to_json())


def _cut_torn_line(path: Path) -> None:
    """A process killed while writing leaves half a line at the end."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)


def read_rows(root: Path) -> list[Row]:
    """Return the rows of a run in the order in which they were finished.

    Raises:
        StoreError: rows.jsonl is not what lt-eval writes.
    """
    path = root / "rows.jsonl"
    if not path.is_file():
        return []
    rows = []
    text = path.read_text(encoding="utf-8")
    # not splitlines(): it would also break at the line separators that a JSON string may hold
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            rows.append(Row.from_json(json.loads(line)))
        except (json.JSONDecodeError, TypeError, KeyError) as cause:
            raise StoreError(
                f"{path}, line {number}: not a row that lt-eval wrote ({cause}). Delete the line to measure it again."
            ) from cause
    return rows


def read_summary(root: Path) -> Summary:
    """Return the table of a finished run.

    Raises:
        StoreError: there is no run, or it is not finished.
    """
    if not root.is_dir():
        raise StoreError(f"{root}: there is no such run folder. `lt-eval single --out {root}` makes one.")
    path = root / "summary.json"
    if not path.is_file():
        hint = (
            "run its command again: it continues where it stopped"
            if (root / "manifest.json").is_file()
            else ("it is not a run folder: name the folder that `lt-eval single` printed")
        )
        raise StoreError(f"{root}: holds no summary.json; {hint}.")
    data = read_json(path)
    try:
        return Summary.from_json(data)
    except (TypeError, KeyError, AttributeError) as cause:
        raise StoreError(
            f"{path}: not a summary of this version of lt-eval ({cause}). Run its command again."
        ) from cause
