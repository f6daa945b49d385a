"""A folder of clips: as a data set of its own, and as the clips of a method matched to a data set by name.

    refs/              ids            out/ours/            matched
      anna.mp4         anna             anna.mp4           by id, whatever the extension
      guests/bo.mov    guests/bo        guests/bo.mp4

The id of a clip is its path below the folder without the extension. Subfolders are searched, names that start with a
dot are not.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lt_eval.errors import DatasetError
from lt_eval.records import Dialogue, Turn

VIDEO_EXTENSIONS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
AUDIO_EXTENSIONS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Folder:
    """Your own clips as a data set: one clip, one dialogue of one turn.

    Args:
        root: folder of the reference clips.
        speech: folder of audio files named by id, which drive the avatar; without it there is none.
        prompts: CSV with the columns `id,prompt`, or JSON `{"id": "prompt"}`.
        portraits: folder of images named by id.

    Every id needs its file in `speech`, `prompts` and `portraits` where these are given; what they hold besides is
    ignored, so one prompt file may serve several folders.

    Raises:
        DatasetError: a folder that is absent, unreadable or without clips, two clips of one id, or a missing companion.
    """

    root: str
    speech: str | None = None
    prompts: str | None = None
    portraits: str | None = None

    def __post_init__(self) -> None:
        _ = self._dialogues  # a wrong path must be told at once, not after the models are loaded

    @cached_property
    def _clips(self) -> dict[str, Path]:
        return files_by_id(Path(self.root), VIDEO_EXTENSIONS, "video")

    @cached_property
    def _dialogues(self) -> tuple[Dialogue, ...]:
        ids = tuple(self._clips)
        speech = _companions(self.speech, ids, AUDIO_EXTENSIONS, "audio")
        portraits = _companions(self.portraits, ids, IMAGE_EXTENSIONS, "image")
        prompts = _prompts_of(self.prompts, ids)
        return tuple(
            Dialogue(
                id=id,
                turns=(Turn(speech=speech.get(id), reference=clip),),
                portrait=portraits.get(id),
                prompt=prompts.get(id, ""),
            )
            for id, clip in self._clips.items()
        )

    @cached_property
    def version(self) -> str:
        """A hash of all names and contents: a copy on another machine has the same one, an edited file another.

        Times and sizes would be read faster, but a copied folder would then count as another data set.
        """
        digest = hashlib.sha256()
        for dialogue in self._dialogues:
            turn = dialogue.turns[0]
            digest.update(f"{dialogue.id}\0{dialogue.prompt}\0".encode())
            for file in (turn.reference, turn.speech, dialogue.portrait):
                digest.update((sha256_of(file) if file else "-").encode())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._dialogues)

    def __getitem__(self, index: int, /) -> Dialogue:
        return self._dialogues[index]


@dataclass(frozen=True)
class Matched:
    """A method's clips against the ids of a data set.

    Attributes:
        found: id -> clip, in the order of the ids.
        missing: ids without a clip.
        extra: files that no id asks for, relative to the folder.
        suggestions: missing id -> the extra file that may have been meant.
    """

    found: Mapping[str, Path]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    suggestions: Mapping[str, str]

    def describe(self) -> str:
        """Return one paragraph for a reader, empty where all is matched."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} of {len(self.found) + len(self.missing)} ids have no clip: ")
            parts.append(f"{_some(self.missing)}. ")
        if self.extra:
            count = len(self.extra)
            files = "1 file matches no id and is" if count == 1 else f"{count} files match no id and are"
            parts.append(f"{files} left out: {_some(self.extra)}. ")
        if self.suggestions:
            id, name = next(iter(self.suggestions.items()))
            parts.append(
                f"Did you mean {name!r} for {id!r}? A clip is named by its id, exactly: {id}{Path(name).suffix}"
            )
        return "".join(parts).strip()


def match_clips(folder: Path, ids: Sequence[str]) -> Matched:
    """Match the clips of a method with the ids of a data set, by exact name.

    Near misses (case, `_generated` and the like) are never taken silently: they are reported with a suggestion.

    Raises:
        DatasetError: the folder cannot be used, holds two files of one id, or none of its files matches.
    """
    files = files_by_id(folder, VIDEO_EXTENSIONS, "video")
    found = {id: files[id] for id in ids if id in files}
    missing = tuple(id for id in ids if id not in files)
    unused = {id: path.relative_to(folder).as_posix() for id, path in files.items() if id not in found}
    suggestions = {id: unused[near] for id in missing if (near := _near_miss(id, unused))}
    matched = Matched(found, missing, tuple(unused.values()), suggestions)
    if ids and not found:
        hint = matched.describe().partition("Did you mean")
        raise DatasetError(
            f"{folder}: none of its {len(files)} clips is named like an id of the data set. "
            f"It holds for example {_some(list(unused.values()), 2)}; the ids are for example {_some(ids, 2)}. "
            + (f"Did you mean{hint[2]}" if hint[1] else "Name each clip by the id it was made for, as ID.mp4.")
        )
    return matched


def files_by_id(folder: Path, extensions: Sequence[str], kind: str) -> dict[str, Path]:
    """Return id -> file for every file below `folder` with one of the extensions, sorted by id.

    Raises:
        DatasetError: the folder is absent, unreadable or empty, or two files share an id.
    """
    found: dict[str, Path] = {}
    for path in _files_below(folder, kind):
        if path.suffix.lower() not in extensions:
            continue
        id = path.relative_to(folder).with_suffix("").as_posix()
        if id in found:
            raise DatasetError(
                f"{folder}: {found[id].name} and {path.name} have the same id {id!r}. Move one of them elsewhere."
            )
        found[id] = path
    if not found:
        raise DatasetError(f"{folder}: holds no {kind} file ({', '.join(extensions)}), nor do its subfolders.")
    return dict(sorted(found.items()))


def read_prompts(path: Path) -> dict[str, str]:
    """Read id -> prompt from a CSV with the columns `id,prompt` or a JSON object.

    Raises:
        DatasetError: not readable, or not in one of the two forms.
    """
    rule = 'Write a CSV with the columns id,prompt, or JSON {"id": "prompt"}.'
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            data = json.loads(text)
            if not (isinstance(data, dict) and all(isinstance(value, str) for value in data.values())):
                raise DatasetError(f"{path}: is not an object of texts. {rule}")
            return dict(data)
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except OSError as cause:
        raise DatasetError(f"{path}: the prompts cannot be read ({cause.strerror}). {rule}") from cause
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as cause:
        raise DatasetError(f"{path}: the prompts cannot be read ({cause}). {rule}") from cause
    if not rows or not {"id", "prompt"} <= set(rows[0]):
        raise DatasetError(f"{path}: has not the columns id and prompt. {rule}")
    prompts = {row["id"]: row["prompt"] or "" for row in rows}
    if len(prompts) != len(rows):
        raise DatasetError(f"{path}: some id stands there twice. {rule}")
    return prompts


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as cause:
        raise DatasetError(f"{path}: cannot be read ({cause.strerror}). Check the permissions.") from cause


def _files_below(folder: Path, kind: str) -> Iterator[Path]:
    """Every visible file, in an order that does not depend on the file system."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError as cause:
        raise DatasetError(f"{folder}: there is no such folder. Give the one that holds your {kind} files.") from cause
    except NotADirectoryError as cause:
        raise DatasetError(f"{folder}: is a file. Give the folder that holds your {kind} files.") from cause
    except OSError as cause:
        raise DatasetError(f"{folder}: cannot be read ({cause.strerror}). Check its permissions.") from cause
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files_below(entry, kind)
        else:
            yield entry


def _companions(folder: str | None, ids: Sequence[str], extensions: Sequence[str], kind: str) -> dict[str, Path]:
    if folder is None:
        return {}
    files = files_by_id(Path(folder), extensions, kind)
    _refuse_missing(Path(folder), kind, ids, files)
    return {id: files[id] for id in ids}


def _prompts_of(path: str | None, ids: Sequence[str]) -> dict[str, str]:
    if path is None:
        return {}
    prompts = read_prompts(Path(path))
    _refuse_missing(Path(path), "prompt", ids, prompts)
    return prompts


def _refuse_missing(where: Path, kind: str, ids: Sequence[str], have: Mapping[str, object]) -> None:
    missing = [id for id in ids if id not in have]
    if missing:
        near = _near_miss(missing[0], have)
        raise DatasetError(
            f"{where}: {len(missing)} of {len(ids)} clips have no {kind} there: {_some(missing)}. "
            + (f"Did you mean {near!r} for {missing[0]!r}? " if near else "")
            + "Every clip needs one, named by the clip's id; leave the option out to go without."
        )


def _near_miss(id: str, candidates: Mapping[str, object]) -> str | None:
    """The candidate that differs in case, in folder, or by a word added before or after; else a close spelling."""
    plain = id.rpartition("/")[2].lower()
    for candidate in candidates:
        name = candidate.rpartition("/")[2].lower()
        before, matched, after = name.partition(plain)
        # "clip1" must not be offered "clip10": what is added has to start with a separator
        if matched and before[-1:] in ("", "_", "-", ".", " ") and after[:1] in ("", "_", "-", ".", " "):
            return candidate
    # only letters may differ: numbered names are all close to each other and none is meant for another
    letters = {candidate: candidate for candidate in candidates if _digits(candidate) == _digits(id)}
    close = difflib.get_close_matches(id, letters, n=1, cutoff=0.8)
    return close[0] if close else None


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _some(names: Sequence[str], count: int = 3) -> str:
    shown = ", ".join(names[:count])
    return f"{shown}, ..." if len(names) > count else shown
