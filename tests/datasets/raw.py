"""Raw videos and annotation files in the published formats, made small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.media.encode import encode

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames

FPS = 25
SAMPLE_RATE_HZ = 16_000


def bars(count: int, width: int = 96, height: int = 64, tint: int = 0) -> Frames:
    """Frames that name their number: eight blocks in the middle row are its bits."""
    frames = np.full((count, height, width, 3), 60, np.uint8)
    frames[..., 2] = 40 + tint
    for index in range(count):
        for bit in range(8):
            left = bit * width // 8
            frames[index, :, left : left + width // 8, :2] = 220 if index >> bit & 1 else 30
    return frames


def number_in(frame: Frames) -> int:
    """Read a frame of `bars` again, after coding and scaling."""
    width = frame.shape[1]
    middle = frame[frame.shape[0] // 2]
    return sum((int(middle[bit * width // 8 + width // 16, 0]) > 125) << bit for bit in range(8))


def hum(seconds: float, tone_hz: float = 220.0) -> Audio:
    """A tone with a click at every whole second."""
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    samples = (0.1 * np.sin(2 * np.pi * tone_hz * time_s)).astype(np.float32)
    samples[::SAMPLE_RATE_HZ] = 0.9
    return samples


def video(path: Path, seconds: float = 2.0, *, sound: bool = True, tint: int = 0, width: int = 96) -> Path:
    """A raw video of numbered frames with its hum."""
    count = round(seconds * FPS)
    return encode(path, bars(count, width=width, tint=tint), FPS, hum(seconds) if sound else None, preset="ultrafast")


def hdtf(source: Path, names: Sequence[str], *, seconds: float = 2.0) -> Path:
    """The nine annotation files of HDTF for radio videos of that length with one clip each, and a split of all."""
    folder = source / "HDTF_dataset"
    folder.mkdir(parents=True)
    end = f"00:{int(seconds):02d}"
    lines = {
        "RD_annotion_time": [f"{name}.mp4 00:00-{end}" for name in names],
        "RD_crop_wh": [f"{name}_0.mp4 24 64 8 64" for name in names],
        "RD_resolution": [f"{name}.mp4 128" for name in names],
    }
    for subset in ("RD", "WDA", "WRA"):
        for kind in ("annotion_time", "crop_wh", "resolution"):
            text = "".join(f"{line}\n" for line in lines.get(f"{subset}_{kind}", ()))
            (folder / f"{subset}_{kind}.txt").write_text(text)
    split = source / "test_split.txt"
    split.write_text("".join(f"RD_{name}_000\n" for name in names))
    return split


def avspeech(source: Path, rows: Sequence[tuple[str, float, float, float, float]]) -> None:
    """avspeech_test.csv."""
    source.mkdir(parents=True, exist_ok=True)
    text = "".join(",".join([row[0], *(f"{value:.6f}" for value in row[1:])]) + "\n" for row in rows)
    (source / "avspeech_test.csv").write_text(text)


def celebvhq(source: Path, clips: Sequence[tuple[str, str, float, float]]) -> None:
    """celebvhq_info.json with the square middle of a 96x64 frame as every box."""
    source.mkdir(parents=True, exist_ok=True)
    box = {"top": 0.02, "bottom": 0.98, "left": 0.2, "right": 0.8}
    attributes = {"appearance": [0], "action": [1], "emotion": {"sep_flag": False, "labels": "neutral"}}
    entries = {
        id: {
            "ytb_id": youtube,
            "duration": {"start_sec": start, "end_sec": end},
            "bbox": box,
            "attributes": attributes,
            "version": "v0.1",
        }
        for id, youtube, start, end in clips
    }
    info = {"meta_info": {"appearance_mapping": ["young"], "action_mapping": ["talk"]}, "clips": entries}
    (source / "celebvhq_info.json").write_text(json.dumps(info))
