"""CelebV-HQ: celebvhq_info.json and the videos that a user holds -> candidates.

Format (CelebV-HQ/CelebV-HQ, README and download_and_process.py, commit d1b6cf3):

    {"clips": {"M2Ohb0FAaJU_1": {"ytb_id": "M2Ohb0FAaJU",
                                 "duration": {"start_sec": 81.62, "end_sec": 86.17},
                                 "bbox": {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922}, ...}}}

The published processing widens the box by 0.02 of the frame on each side; its square is taken in `crop.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_eval.datasets.candidates import Candidate, Listing, Origin, find_annotation, restrict, videos_by_stem
from lt_eval.datasets.folder import sha256_of
from lt_eval.errors import DatasetError
from lt_eval.records import Box

NAME = "celebvhq_info.json"

WIDEN = 0.02
"""`expand(bbox, 0.02)` of the published download_and_process.py."""

ORIGIN = Origin(
    title="CelebV-HQ",
    page="https://celebv-hq.github.io/",
    get=(
        f"From https://github.com/CelebV-HQ/CelebV-HQ take {NAME}, and fetch videos of the ytb_id fields in it "
        "(its download_and_process.py does both steps)."
    ),
    layout=(
        f"    DIR/{NAME}          as published\n"
        "    DIR/raw/M2Ohb0FAaJU.mp4         whole videos named by ytb_id, in any subfolder;\n"
        "    DIR/processed/M2Ohb0FAaJU_1.mp4 or clips already cut and cropped, named by clip, with their sound"
    ),
    licence="Non-commercial research only (the project's agreement). The videos belong to their YouTube uploaders.",
)

NO_SPLIT = (
    "CelebV-HQ has no published test split: clips are drawn from all of it. If a model was trained on CelebV-HQ, give "
    "--split FILE with the clips that it has not seen, one clip name a line."
)


def candidates(source: Path, root: Path, split: Path | None) -> Listing:
    """Return the clips whose video lies below `source`.

    Raises:
        DatasetError: the annotation file is absent or not in the published form.
    """
    path = find_annotation(source, NAME, ORIGIN)
    clips = _clips(path)
    kept, notes = restrict(clips, split)
    videos = videos_by_stem(source, root)
    found = []
    for id in sorted(kept):
        youtube, start_s, end_s, box = clips[id]
        if youtube in videos:
            found.append(Candidate(id, videos[youtube], start_s, end_s, box, youtube))
        elif id in videos:
            found.append(Candidate(id, videos[id], 0.0, end_s - start_s, box, youtube, is_cut=True))
    files = {NAME: sha256_of(path)} | ({"split": sha256_of(split)} if split else {})
    return Listing(tuple(found), len(kept), files, notes if split else (*notes, NO_SPLIT))


def _clips(path: Path) -> dict[str, tuple[str, float, float, Box]]:
    try:
        clips = json.loads(path.read_text(encoding="utf-8-sig"))["clips"]
        return {id: _clip(entry) for id, entry in clips.items()}
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise DatasetError(
            f"{path}: is not the published annotation file ({type(cause).__name__}: {cause}). Download it again."
        ) from cause


def _clip(entry: Mapping[str, Any]) -> tuple[str, float, float, Box]:
    box = entry["bbox"]
    widened = Box(
        left=max(float(box["left"]) - WIDEN, 0.0),
        top=max(float(box["top"]) - WIDEN, 0.0),
        right=min(float(box["right"]) + WIDEN, 1.0),
        bottom=min(float(box["bottom"]) + WIDEN, 1.0),
    )
    duration = entry["duration"]
    return str(entry["ytb_id"]), float(duration["start_sec"]), float(duration["end_sec"]), widened
