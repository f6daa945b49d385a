"""HDTF: the annotation files of MRzzm/HDTF and the videos that a user holds -> candidates.

Format (MRzzm/HDTF, commit bbde889, HDTF_dataset/; SUBSET is RD, WDA or WRA; columns are separated by blanks):

    SUBSET_annotion_time.txt   Radio11.mp4 00:30-01:00 01:30-02:30      one start-end a clip
    SUBSET_crop_wh.txt         Radio11_0.mp4 412 599 0 599              left width top height, pixels
    SUBSET_resolution.txt      Radio11.mp4 720                          height of the copy those pixels count in

Clip 0 of Radio11 is called Radio11_0, or RD_Radio11_000 by the download script in common use; both are understood.
A few clips have no crop line, and one video has resolution 0: their face is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lt_eval.datasets.candidates import (
    Candidate,
    Listing,
    Origin,
    PixelBox,
    find_annotation,
    read_lines,
    read_split,
    unknown_note,
    videos_by_stem,
)
from lt_eval.datasets.folder import sha256_of
from lt_eval.errors import DatasetError

SUBSETS = ("RD", "WDA", "WRA")

ORIGIN = Origin(
    title="HDTF",
    page="https://github.com/MRzzm/HDTF",
    get=(
        "From https://github.com/MRzzm/HDTF take the folder HDTF_dataset/ (the files {RD,WDA,WRA}_annotion_time.txt, "
        "_crop_wh.txt and _resolution.txt), and fetch the videos of its _video_url.txt files."
    ),
    layout=(
        "    DIR/HDTF_dataset/RD_annotion_time.txt ...   as published, nine files\n"
        "    DIR/videos/Radio11.mp4                      whole videos (or RD_Radio11.mp4), in any subfolder;\n"
        "    DIR/clips/RD_Radio11_000.mp4                or clips already cut (or Radio11_0.mp4), with their sound\n"
        "    DIR/test_split.txt                          your test split: one clip or video name a line"
    ),
    licence="Annotations: CC BY 4.0 (stated by the project). The videos belong to their YouTube uploaders.",
    split=(
        "HDTF has no official test split, and models of this kind are trained on HDTF itself: clips taken from all of "
        "it would test a model on what it has seen. Give the list of test videos that your models were kept away from, "
        "one clip or video name a line (Radio11_0, RD_Radio11_000 or Radio11), as --split FILE."
    ),
)


def candidates(source: Path, root: Path, split: Path | None) -> Listing:
    """Return the clips of the test split whose video lies below `source`.

    Raises:
        DatasetError: no split is given, an annotation file is absent or not in the published form.
    """
    if split is None:
        raise DatasetError(f"HDTF cannot be prepared without a test split. {ORIGIN.split}")
    paths = {
        f"{subset}_{kind}.txt": find_annotation(source, f"{subset}_{kind}.txt", ORIGIN)
        for subset in SUBSETS
        for kind in ("annotion_time", "crop_wh", "resolution")
    }
    clips: dict[str, tuple[str, str, float, float]] = {}
    regions: dict[str, PixelBox] = {}
    for subset in SUBSETS:
        clips |= _times(paths[f"{subset}_annotion_time.txt"], subset)
        regions |= _regions(paths[f"{subset}_crop_wh.txt"], paths[f"{subset}_resolution.txt"])
    chosen, notes = _apply_split(split, clips)
    videos = videos_by_stem(source, root)
    found = [
        candidate for id in chosen if (candidate := _candidate(id, *clips[id], regions.get(id), videos)) is not None
    ]
    files = {name: sha256_of(path) for name, path in paths.items()} | {"split": sha256_of(split)}
    return Listing(tuple(found), len(chosen), files, notes)


def _candidate(
    id: str, subset: str, video: str, start_s: float, end_s: float, region: PixelBox | None, videos: Mapping[str, Path]
) -> Candidate | None:
    index = id.rpartition("_")[2]
    # radio speakers are numbered, not named; elsewhere a digit after the name counts videos of one person
    person = video if subset == "RD" else video.rstrip("0123456789")
    for name in (video, f"{subset}_{video}"):
        if name in videos:
            return Candidate(id, videos[name], start_s, end_s, region, person)
    for name in (id, f"{subset}_{id}", f"{subset}_{video}_{int(index):03d}", f"{video}_{int(index):03d}"):
        if name in videos:
            return Candidate(id, videos[name], 0.0, end_s - start_s, region, person, is_cut=True)
    return None


def _times(path: Path, subset: str) -> dict[str, tuple[str, str, float, float]]:
    """Clip id -> subset, video, start and end in seconds."""
    clips: dict[str, tuple[str, str, float, float]] = {}
    for number, line in enumerate(read_lines(path), 1):
        name, *spans = line.split() or [""]
        if not name:
            continue
        video = name.removesuffix(".mp4")
        for index, span in enumerate(spans):
            match = re.fullmatch(r"(\d+(?::\d+)+)-(\d+(?::\d+)+)", span)
            if match is None:
                raise DatasetError(
                    f"{path}, line {number}: {span!r} is not a time span like 00:30-01:00. Restore the published file."
                )
            clips[f"{video}_{index}"] = (subset, video, _seconds(match[1]), _seconds(match[2]))
    return clips


def _seconds(text: str) -> float:
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(part)
    return float(total)


def _regions(crops: Path, resolutions: Path) -> dict[str, PixelBox]:
    """Clip id -> published crop, where the height that its pixels count in is known."""
    heights = {name.removesuffix(".mp4"): int(value) for name, value in _columns(resolutions, 1)}
    found: dict[str, PixelBox] = {}
    for name, *values in _columns(crops, 4):
        id = name.removesuffix(".mp4")
        height_of_frame = heights.get(id.rpartition("_")[0], 0)
        if height_of_frame:
            left, width, top, height = map(int, values)
            found[id] = PixelBox(left, top, width, height, height_of_frame)
    return found


def _columns(path: Path, numbers: int) -> list[list[str]]:
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        row = line.split()
        if not row:
            continue
        if len(row) != numbers + 1 or not all(re.fullmatch(r"-?\d+", value) for value in row[1:]):
            raise DatasetError(
                f"{path}, line {number}: {line.strip()!r} is not a name and {numbers} whole numbers. "
                "Restore the published file."
            )
        rows.append(row)
    return rows


def _apply_split(split: Path, clips: Mapping[str, tuple[str, str, float, float]]) -> tuple[list[str], tuple[str, ...]]:
    """The ids that the split names, by clip or by whole video, with or without the subset in front."""
    by_name: dict[str, list[str]] = {}
    for id, (subset, video, _, _) in clips.items():
        index = int(id.rpartition("_")[2])
        for clip_name in (id, f"{video}_{index:03d}"):
            by_name.setdefault(clip_name, []).append(id)
            by_name.setdefault(f"{subset}_{clip_name}", []).append(id)
        by_name.setdefault(video, []).append(id)
        by_name.setdefault(f"{subset}_{video}", []).append(id)
    names = read_split(split)
    unknown = [name for name in names if name not in by_name]
    if len(unknown) == len(names):
        raise DatasetError(
            f"{split}: names no clip of the annotations; it holds for example {unknown[0]!r}, and a clip is called "
            f"{next(iter(clips), 'Radio11_0')!r}."
        )
    chosen = {id for name in names for id in by_name.get(name, ())}
    return sorted(chosen), unknown_note(split, unknown)
