"""AVSpeech: avspeech_test.csv and the videos that a user holds -> candidates.

Format (looking-to-listen.github.io/avspeech; no header line, one segment a row):

    u5MPyrRJPmc,30.030000,36.036000,0.482031,0.350000

YouTube id, start and end in seconds, and the centre of the speaker's face at the start, in fractions of the frame from
the top left. Speakers of the test file do not occur in avspeech_train.csv.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lt_eval.datasets.candidates import (
    Candidate,
    FaceCentre,
    Listing,
    Origin,
    find_annotation,
    read_lines,
    restrict,
    videos_by_stem,
)
from lt_eval.datasets.folder import sha256_of
from lt_eval.errors import DatasetError

NAME = "avspeech_test.csv"

ORIGIN = Origin(
    title="AVSpeech (test)",
    page="https://looking-to-listen.github.io/avspeech/",
    get=(
        f"From https://looking-to-listen.github.io/avspeech/download.html take {NAME} (not the training file: models "
        "are trained on it), and fetch videos of the YouTube ids in it."
    ),
    layout=(
        f"    DIR/{NAME}                            as published\n"
        "    DIR/videos/u5MPyrRJPmc.mp4                       whole videos named by YouTube id, in any subfolder;\n"
        "    DIR/videos/u5MPyrRJPmc_30.030000_36.036000.mp4   or segments already cut, named id_start_end"
    ),
    licence="Annotations: see the terms on the download page. The videos belong to their YouTube uploaders.",
)

SAME_TIME_S = 0.02
"""How far the times in a file name may be off the published ones: scripts round them to hundredths."""


def candidates(source: Path, root: Path, split: Path | None) -> Listing:
    """Return the test segments whose video lies below `source`.

    Raises:
        DatasetError: the annotation file is absent or not in the published form.
    """
    path = find_annotation(source, NAME, ORIGIN)
    rows = _rows(path)
    kept, notes = restrict(rows, split)
    videos = videos_by_stem(source, root)
    segments = _cut_segments(videos)
    found = [
        candidate
        for id, row in rows.items()
        if id in kept and (candidate := _candidate(id, row, videos, segments)) is not None
    ]
    files = {NAME: sha256_of(path)} | ({"split": sha256_of(split)} if split else {})
    return Listing(tuple(found), len(kept), files, notes)


Row = tuple[str, float, float, FaceCentre]


def _candidate(
    id: str, row: Row, videos: Mapping[str, Path], segments: Mapping[str, Sequence[tuple[float, float, Path]]]
) -> Candidate | None:
    youtube, start_s, end_s, centre = row
    if youtube in videos:
        return Candidate(id, videos[youtube], start_s, end_s, centre, youtube)
    for cut_start_s, cut_end_s, path in segments.get(youtube, ()):
        if abs(cut_start_s - start_s) <= SAME_TIME_S and abs(cut_end_s - end_s) <= SAME_TIME_S:
            return Candidate(id, path, 0.0, end_s - start_s, centre, youtube, is_cut=True)
    return None


def _rows(path: Path) -> dict[str, Row]:
    """Segment id -> row. The id holds milliseconds, because a dot in a file name is taken for an extension."""
    rows: dict[str, Row] = {}
    for number, fields in enumerate(csv.reader(read_lines(path)), 1):
        if not fields:
            continue
        try:
            youtube, start, end, x, y = fields
            row = (youtube, float(start), float(end), FaceCentre(float(x), float(y)))
        except ValueError as cause:
            raise DatasetError(
                f"{path}, line {number}: {','.join(fields)!r} is not YouTube id, start, end, x, y. "
                "Restore the published file."
            ) from cause
        rows[f"{youtube}_{round(row[1] * 1000)}_{round(row[2] * 1000)}"] = row
    return rows


def _cut_segments(videos: Mapping[str, Path]) -> dict[str, list[tuple[float, float, Path]]]:
    found: dict[str, list[tuple[float, float, Path]]] = {}
    for stem, path in videos.items():
        match = re.fullmatch(r"(.{11})_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)", stem)
        if match:
            found.setdefault(match[1], []).append((float(match[2]), float(match[3]), path))
    return found
