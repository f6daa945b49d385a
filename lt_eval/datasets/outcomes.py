"""What became of every candidate so far, kept while a preparation is under way so that it can be continued."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from lt_eval.datasets import manifest
from lt_eval.datasets.candidates import Candidate
from lt_eval.datasets.folder import sha256_of
from lt_eval.datasets.manifest import PreparedClip, Skipped
from lt_eval.errors import DatasetError
from lt_eval.store import atomic_write, storage_error

NAME = "records.jsonl"

Outcome = PreparedClip | Skipped


class Records:
    """ROOT/.work/records.jsonl: one outcome a line, under a first line that says what they were made with.

    Use it as a context manager, under the folder's lock. It takes over what an unfinished preparation left, else what
    the manifest of a finished one lists.

    Args:
        root: the folder that is prepared.
        dataset: its name.
        settings: everything that decides what comes out; a folder with other ones is refused.
        wanted: how many clips are to be made; fewer than there are is refused.
    """

    def __init__(self, root: Path, dataset: str, settings: Mapping[str, Any], wanted: int) -> None:
        self.settings = settings
        self._root, self._wanted = root, wanted
        self._path = root / manifest.WORK / NAME
        self._header = {"dataset": dataset, "settings": dict(settings)}
        self._known: dict[str, Outcome] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Records:
        """Open the records.

        Raises:
            DatasetError: the folder holds a set made with other settings, or a larger one.
            StoreError: not writable.
        """
        header, outcomes, whole = self._left_behind()
        if header is not None:
            self._refuse_other(header)
        self._known = {outcome.id: outcome for outcome in outcomes}
        try:
            for folder in manifest.FILES:
                (self._root / folder).mkdir(exist_ok=True)
            for pattern in (*(f"{folder}/.*" for folder in manifest.FILES), f".{manifest.NAME}.*"):
                for half_written in self._root.glob(pattern):
                    half_written.unlink()
            if not whole:
                with atomic_write(self._path) as file:
                    file.writelines(map(_line, [self._header, *map(_record, self._known.values())]))
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as cause:
            raise storage_error(self._root, cause) from cause
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def outcome_of(self, candidate: Candidate, source_bytes: int) -> Outcome | None:
        """Return what this candidate became earlier, unless its video or its files have changed since."""
        outcome = self._known.get(candidate.id)
        if outcome is None or outcome.source_bytes != source_bytes:
            return None
        files = outcome.files if isinstance(outcome, PreparedClip) else {}
        same = all((self._root / file).is_file() and sha256_of(self._root / file) == files[file] for file in files)
        return outcome if same else None

    def append(self, outcome: Outcome) -> None:
        """Write an outcome down; when this returns it survives a crash.

        Raises:
            StorageFullError: no room; the candidate counts as not tried.
        """
        assert self._file is not None
        try:
            self._file.write(_line(_record(outcome)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as cause:
            raise storage_error(self._path, cause) from cause

    def close_and_remove(self) -> None:
        """Forget the work folder: the manifest says it all now."""
        assert self._file is not None
        self._file.close()
        shutil.rmtree(self._path.parent)

    def _left_behind(self) -> tuple[dict[str, Any] | None, Iterable[Outcome], bool]:
        """What an earlier call left: its header, its outcomes, and whether the records file holds exactly these."""
        if self._path.is_file():
            text = self._path.read_text(encoding="utf-8")
            try:
                # a process killed while writing leaves half a line at the end
                header, *lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
                return header, [_outcome(line) for line in lines], text.endswith("\n")
            except (ValueError, KeyError, TypeError) as cause:
                raise DatasetError(
                    f"{self._path}: is not what `lt-eval data prepare` wrote ({cause}). Delete it to begin anew."
                ) from cause
        if (self._root / manifest.NAME).is_file():
            made = manifest.read(self._root)
            if len(made.clips) > self._wanted:
                raise DatasetError(
                    f"{self._root}: holds {len(made.clips)} clips, and {self._wanted} are asked for. Its first "
                    f"{self._wanted} are the same set: run with --limit {self._wanted}, or give another --root."
                )
            return {"dataset": made.dataset, "settings": made.settings}, [*made.clips, *made.skipped], False
        return None, [], False

    def _refuse_other(self, header: Mapping[str, Any]) -> None:
        theirs = {"dataset": header["dataset"], **header["settings"]}
        ours = {"dataset": self._header["dataset"], **self.settings}
        differ = [
            f"{key} {theirs.get(key)!r} there and {ours.get(key)!r} now" if key != "annotations" else "annotation files"
            for key in sorted(theirs.keys() | ours.keys())
            if theirs.get(key) != ours.get(key)
        ]
        if differ:
            raise DatasetError(
                f"{self._root}: holds a set that was made differently ({'; '.join(differ)}). "
                "Give another --root, or delete the folder."
            )


def _record(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, PreparedClip):
        return {"clip": outcome.to_json()}
    return {"skipped": dataclasses.asdict(outcome)}


def _outcome(record: Mapping[str, Any]) -> Outcome:
    return PreparedClip.from_json(record["clip"]) if "clip" in record else Skipped(**record["skipped"])


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n"
