"""What an annotation reader returns, and the look-ups that all of them share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lt_eval.datasets.folder import VIDEO_EXTENSIONS, sha256_of
from lt_eval.datasets.manifest import NAME as MANIFEST
from lt_eval.errors import DatasetError
from lt_eval.records import Box


class PixelBox(NamedTuple):
    """A published crop in pixels of a copy of the video that was `frame_height` pixels high."""

    left: int
    top: int
    width: int
    height: int
    frame_height: int


class FaceCentre(NamedTuple):
    """A published face centre in fractions of the frame: which of several faces is the speaker's."""

    x: float
    y: float


@dataclass(frozen=True)
class Candidate:
    """A stretch of video that may become a clip.

    Attributes:
        id: does not depend on how the file is called here, so that all holders of the data name it alike.
        video: the file at hand.
        start_s: start in that file; `end_s` the end.
        end_s: see `start_s`.
        region: what was published about where the face is.
        person: who speaks, as far as the annotations say.
        is_cut: the file is the annotated clip alone; when it is square too, it is taken as cropped.
    """

    id: str
    video: Path
    start_s: float
    end_s: float
    region: Box | PixelBox | FaceCentre | None
    person: str
    is_cut: bool = False


@dataclass(frozen=True)
class Listing:
    """What a source folder offers.

    Attributes:
        candidates: annotated clips whose video is present.
        annotated: how many clips the annotations name, present or not.
        files: annotation file name -> sha256.
        notes: what a user should know of the reading.
    """

    candidates: tuple[Candidate, ...]
    annotated: int
    files: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Origin:
    """How a user gets a data set. `layout` shows a folder that `lt-eval data prepare` understands.

    `split` says why a split file is needed, empty where the data set can do without.
    """

    title: str
    page: str
    get: str
    layout: str
    licence: str
    split: str = ""


def find_annotation(source: Path, name: str, origin: Origin) -> Path:
    """Return the annotation file of that name in the source folder or below it.

    Raises:
        DatasetError: there is none, or several that differ.
    """
    found = [path for path in _walk(source, skip=None) if path.name == name]
    if not found:
        raise DatasetError(
            f"{source}: holds no {name}. {origin.get} Put them into the folder that you give as --source:\n"
            f"{origin.layout}"
        )
    if len({sha256_of(path) for path in found}) > 1:
        raise DatasetError(f"{source}: holds two different {name}: {found[0]} and {found[1]}. Remove one of them.")
    return found[0]


def videos_by_stem(source: Path, root: Path) -> dict[str, Path]:
    """Return stem -> file of every video below `source`, prepared folders and `root` left out.

    Raises:
        DatasetError: two files have one stem, or the folder cannot be read.
    """
    found: dict[str, Path] = {}
    for path in _walk(source, skip=root.resolve()):
        if path.suffix.lower() not in VIDEO_EXTENSIONS:
            continue
        if path.stem in found:
            raise DatasetError(
                f"{source}: two videos are called {path.stem}: {found[path.stem]} and {path}. "
                "Move one of them elsewhere."
            )
        found[path.stem] = path
    return found


def read_split(path: Path) -> tuple[str, ...]:
    """Return the names of a split file: one a line, folders and video extensions cut off, `#` starts a comment.

    Raises:
        DatasetError: unreadable, or without a name.
    """
    rule = "It holds one video or clip name a line."
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as cause:
        raise DatasetError(f"{path}: the split file cannot be read ({cause}). {rule}") from cause
    names = [line.partition("#")[0].strip().replace("\\", "/").rpartition("/")[2] for line in lines]
    stems = tuple(dict.fromkeys(_without_extension(name) for name in names if name))
    if not stems:
        raise DatasetError(f"{path}: the split file names nothing. {rule}")
    return stems


def restrict(ids: Iterable[str], split: Path | None) -> tuple[set[str], tuple[str, ...]]:
    """Return the ids that a split of plain clip ids keeps (all without one), and notes on names that are unknown.

    Raises:
        DatasetError: the split names none of the ids.
    """
    known = set(ids)
    if split is None:
        return known, ()
    names = read_split(split)
    unknown = [name for name in names if name not in known]
    if len(unknown) == len(names):
        raise DatasetError(f"{split}: names no clip of the annotations; it holds for example {unknown[0]!r}.")
    return known & set(names), unknown_note(split, unknown)


def unknown_note(split: Path, unknown: list[str]) -> tuple[str, ...]:
    """Return the remark on names of a split that the annotations do not know."""
    if not unknown:
        return ()
    return (f"{split.name}: {len(unknown)} names are not in the annotations, for example {unknown[0]}.",)


def read_lines(path: Path) -> list[str]:
    """Return the lines of an annotation file.

    Raises:
        DatasetError: it cannot be read as text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as cause:
        raise DatasetError(f"{path}: cannot be read ({cause}). Download it again.") from cause


def _without_extension(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in VIDEO_EXTENSIONS else name


def _walk(source: Path, skip: Path | None) -> list[Path]:
    """Every visible file below `source`, sorted; what `lt-eval data prepare` made earlier is no source."""

    def refuse(cause: OSError) -> None:
        raise DatasetError(f"{cause.filename}: cannot be read ({cause.strerror}). Give a readable folder as --source.")

    found: list[Path] = []
    for folder, subfolders, names in os.walk(source, onerror=refuse, followlinks=True):
        here = Path(folder)
        prepared = MANIFEST in names and "clips" in subfolders and "speech" in subfolders
        if prepared or here.resolve() == skip:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [here / name for name in names if not name.startswith(".")]
    return sorted(found)
