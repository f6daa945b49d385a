"""HDTF, AVSpeech and CelebV-HQ as `lt-eval data prepare` left them, and whether they are whole.

A prepared set lies in `root`, else in NAME below `paths.data_dir`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lt_eval.datasets import avspeech, celebvhq, hdtf, manifest
from lt_eval.datasets.candidates import Origin
from lt_eval.datasets.folder import sha256_of
from lt_eval.datasets.manifest import Manifest
from lt_eval.errors import DatasetError
from lt_eval.paths import data_dir
from lt_eval.records import Dialogue, Turn

ORIGINS: Mapping[str, Origin] = {"hdtf": hdtf.ORIGIN, "avspeech": avspeech.ORIGIN, "celebvhq": celebvhq.ORIGIN}


class Overview(NamedTuple):
    """One line of `lt-eval data list`. `status` is "ready", "absent", "unfinished" or "damaged"."""

    name: str
    status: str
    where: Path
    clips: int


@dataclass(frozen=True)
class Prepared:
    """A prepared set as a data set: one clip, one dialogue of one turn. Subclasses say which one.

    Args:
        root: the prepared folder; by default where `lt-eval data prepare` puts it.

    Raises:
        DatasetError: absent, unfinished or incomplete; the message says how to get it.
    """

    root: str | None = None

    name = ""

    def __post_init__(self) -> None:
        _ = self._dialogues  # a missing data set must be told at once, not after the models are loaded

    @cached_property
    def folder(self) -> Path:
        """Where the set lies."""
        return Path(self.root) if self.root else data_root(self.name)

    @cached_property
    def manifest(self) -> Manifest:
        """What the set is; raises DatasetError."""
        if not (self.folder / manifest.NAME).is_file():
            raise DatasetError(how_to_get(self.name, self.folder))
        found = manifest.read(self.folder)
        if found.dataset != self.name:
            raise DatasetError(
                f"{self.folder}: holds {found.dataset}, not {self.name}. "
                f"Give the folder of {self.name} as {self.name}.root."
            )
        return found

    @cached_property
    def _dialogues(self) -> tuple[Dialogue, ...]:
        names = [name for clip in self.manifest.clips for name in clip.files]
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            raise DatasetError(
                f"{self.folder}: {len(missing)} of {len(names)} files of the manifest are gone, for example "
                f"{missing[0]}. `lt-eval data check {self.name}` lists them; preparing again makes them anew."
            )
        return tuple(
            Dialogue(
                id=clip.id,
                turns=(Turn(speech=speech, reference=video, content=clip.content),),
                portrait=portrait,
                prompt=clip.prompt,
            )
            for clip in self.manifest.clips
            for video, speech, portrait in [[self.folder / name for name in manifest.file_names(clip.id)]]
        )

    @cached_property
    def version(self) -> str:
        """A hash of the manifest, which holds a hash of every file."""
        return hashlib.sha256((self.folder / manifest.NAME).read_bytes()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._dialogues)

    def __getitem__(self, index: int, /) -> Dialogue:
        return self._dialogues[index]


@dataclass(frozen=True)
class HDTF(Prepared):
    """HDTF (Zhang et al., CVPR 2021), the test split that its preparation was given."""

    name = "hdtf"


@dataclass(frozen=True)
class AVSpeech(Prepared):
    """AVSpeech (Ephrat et al., SIGGRAPH 2018), its published test file."""

    name = "avspeech"


@dataclass(frozen=True)
class CelebVHQ(Prepared):
    """CelebV-HQ (Zhu et al., ECCV 2022)."""

    name = "celebvhq"


def data_root(name: str) -> Path:
    """Return the folder in which a prepared set lies unless its `root` is given."""
    return data_dir() / name


def how_to_get(name: str, folder: Path) -> str:
    """Return what a user without the set must do, in full."""
    origin = ORIGINS[name]
    split = " --split DIR/test_split.txt" if origin.split else ""
    if (folder / manifest.WORK).is_dir():
        return (
            f"{folder}: the preparation of {name} was begun and not finished. Run the same command again; it goes on "
            f"where it stopped: lt-eval data prepare {name} --source DIR{split}"
        )
    return "\n".join(
        [
            f"{origin.title} is not prepared on this machine: {folder} holds no {manifest.NAME}.",
            f"1. Get it. {origin.get}",
            "   Videos that are gone from the web are left out; a few hundred clips to draw from are enough.",
            "2. Put all of it into one folder DIR, for example:",
            origin.layout,
            f"3. Prepare it: lt-eval data prepare {name} --source DIR{split}",
            f"   It makes 100 clips of 5 s in {folder}; LT_EVAL_DATA or --root choose another place.",
            *([f"   {origin.split}"] if origin.split else []),
            f"Project page: {origin.page}",
        ]
    )


def check(root: Path) -> list[str]:
    """Return what is wrong with a prepared set, one sentence a finding; nothing when it is whole.

    Every file is read and hashed.

    Raises:
        DatasetError: there is no manifest to check against, or a file cannot be read.
    """
    if not (root / manifest.NAME).is_file():
        state = "an unfinished preparation" if (root / manifest.WORK).is_dir() else "no prepared data set"
        raise DatasetError(f"{root}: holds {state}, so there is nothing to check. `lt-eval data prepare` makes one.")
    found = manifest.read(root)
    problems = []
    if len(found.clips) < found.wanted:
        problems.append(f"{len(found.clips)} of the {found.wanted} clips that were asked for could be made.")
    listed: set[str] = set()
    for clip in found.clips:
        absent = [name for name in manifest.file_names(clip.id) if name not in clip.files]
        problems += [f"{name} is not in the manifest, and every clip has one." for name in absent]
        listed |= set(clip.files)
        for name, expected in clip.files.items():
            if not (root / name).is_file():
                problems.append(f"{name} is missing.")
            elif sha256_of(root / name) != expected:
                problems.append(f"{name} is not the file that was prepared: its sha256 is another.")
    for folder in manifest.FILES:
        names = (path.relative_to(root).as_posix() for path in sorted((root / folder).glob("*")))
        problems += [f"{name} is not in the manifest." for name in names if name not in listed]
    return problems


def overview() -> list[Overview]:
    """Return the state of the sets that must be prepared. Cheap: nothing is hashed (`check` does that)."""
    return [_state(name, data_root(name)) for name in ORIGINS]


def _state(name: str, folder: Path) -> Overview:
    if not (folder / manifest.NAME).is_file():
        return Overview(name, "unfinished" if (folder / manifest.WORK).is_dir() else "absent", folder, 0)
    try:
        found = manifest.read(folder)
    except DatasetError:
        return Overview(name, "damaged", folder, 0)
    whole = all((folder / file).is_file() for clip in found.clips for file in clip.files)
    return Overview(name, "ready" if whole else "damaged", folder, len(found.clips))
