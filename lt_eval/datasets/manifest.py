"""What a prepared data set is: manifest.json beside its files.

    ROOT/
        manifest.json        this record
        clips/ID.mp4         25 fps, square, H.264 + AAC: the reference
        speech/ID.wav        16 kHz mono: what drives the avatar
        portraits/ID.png     the first frame
        .work/               only while a preparation is under way

The manifest names no absolute path and no date: two preparations of one set are equal when their manifests are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lt_eval.errors import DatasetError, StoreError
from lt_eval.records import Box
from lt_eval.store import read_json, write_json

FORMAT = 1
NAME = "manifest.json"
WORK = ".work"
FILES = {"clips": ".mp4", "speech": ".wav", "portraits": ".png"}
"""Folder -> extension; every clip has one file in each."""


@dataclass(frozen=True)
class PreparedClip:
    """One clip of a prepared set and where it came from.

    Attributes:
        id: its name in every folder.
        person: who speaks, as far as the annotations say; clips of one person are not independent.
        source: the video it was cut from, relative to the source folder.
        source_bytes: that file's size, which tells a replaced download.
        start_s: time of the first frame in the source; `end_s` where the last one ends.
        end_s: see `start_s`.
        crop: the part of the upright source frame that was kept.
        content: the part of the prepared frame that is picture, where there are letterbox bars.
        face: the median face box in the prepared frame, where the detector saw one.
        cropped_by: "annotation", "detector", "cut clip" (already cropped) or "none" (letterbox).
        prompt: text prompt of the clip.
        files: path below the root -> sha256.
    """

    id: str
    person: str
    source: str
    source_bytes: int
    start_s: float
    end_s: float
    crop: Box
    content: Box | None
    face: Box | None
    cropped_by: str
    prompt: str
    files: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return asdict(self) | {"crop": list(self.crop), "content": _listed(self.content), "face": _listed(self.face)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PreparedClip:
        """Read a record as `to_json` wrote it; raises KeyError or TypeError on anything else."""
        boxes = {key: Box(*data[key]) if data[key] is not None else None for key in ("crop", "content", "face")}
        return PreparedClip(**{**data, **boxes})


@dataclass(frozen=True)
class Skipped:
    """A candidate that was tried and could not be used; the next in rank took its place."""

    id: str
    reason: str
    message: str
    source_bytes: int


@dataclass(frozen=True)
class Manifest:
    """A prepared set.

    Attributes:
        dataset: "hdtf", "avspeech" or "celebvhq".
        settings: everything that decides what comes out: seed, seconds, fit, hashes of the annotation files ...
        wanted: how many clips were asked for.
        annotated: clips that the annotations (and the split) name.
        present: of those, how many had their video in the source folder.
        clips: in rank order, so that the first n are the set that n clips would have given.
        skipped: candidates that failed, with the reason.
    """

    dataset: str
    settings: Mapping[str, Any]
    wanted: int
    annotated: int
    present: int
    clips: tuple[PreparedClip, ...]
    skipped: tuple[Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON types."""
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "settings": dict(self.settings),
            "wanted": self.wanted,
            "annotated": self.annotated,
            "present": self.present,
            "clips": [clip.to_json() for clip in self.clips],
            "skipped": [asdict(skip) for skip in self.skipped],
        }


def file_names(id: str) -> tuple[str, ...]:
    """Return the paths below the root of one clip's files."""
    return tuple(f"{folder}/{id}{extension}" for folder, extension in FILES.items())


def write(root: Path, manifest: Manifest) -> None:
    """Write ROOT/manifest.json atomically; raises StorageFullError or StoreError."""
    write_json(root / NAME, manifest.to_json())


def read(root: Path) -> Manifest:
    """Read ROOT/manifest.json.

    Raises:
        DatasetError: absent, damaged, or of another format.
    """
    path = root / NAME
    try:
        data = read_json(path)
        if data.get("format") != FORMAT:
            raise DatasetError(
                f"{path}: has format {data.get('format')!r}, and this version of lt-eval reads {FORMAT}. "
                "Prepare the data set again into another folder."
            )
        return Manifest(
            dataset=data["dataset"],
            settings=data["settings"],
            wanted=data["wanted"],
            annotated=data["annotated"],
            present=data["present"],
            clips=tuple(PreparedClip.from_json(clip) for clip in data["clips"]),
            skipped=tuple(Skipped(**skip) for skip in data["skipped"]),
        )
    except (StoreError, KeyError, TypeError, AttributeError) as cause:
        raise DatasetError(
            f"{path}: is not a manifest that `lt-eval data prepare` wrote ({cause}). "
            "Restore it, or delete it and prepare again: finished clips are taken over where they are unchanged."
        ) from cause


def _listed(box: Box | None) -> list[float] | None:
    return None if box is None else list(box)
