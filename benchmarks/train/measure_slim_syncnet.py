"""Measures the builtin lip-sync network on people that it has not seen; `slim_syncnet.md` quotes what this prints.

    python benchmarks/train/measure_slim_syncnet.py        # the packaged weights; about half an hour
    python benchmarks/train/measure_slim_syncnet.py --clips 20 --others 5

Every clip goes through an mp4 file (pictures once, sound once for each planted shift, as the demo data set's methods
do) and is read at 25 fps. A planted shift of n frames delays the sound by 0.04 n s, with digital silence where nothing
is left; the offset found should be -n. The last line on standard output is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from talker_clips import FPS, Recipe, TalkerClip, crop, make, through_mp4

from lt_eval.media.clip import MediaClip
from lt_eval.media.spectra import mfcc, pcm16
from lt_eval.metrics.face_boxes import Detector, Footage, boxes_of
from lt_eval.metrics.faces import tracks_in
from lt_eval.metrics.nets.slim_syncnet import LIP_FRAMES, WEIGHTS, SlimSyncNet, load
from lt_eval.metrics.sync import Sync
from lt_eval.metrics.sync_distances import SAMPLES_PER_FRAME, SyncResult, sync_of, window_count
from lt_eval.progress import Progress
from lt_eval.records import SAMPLE_RATE_HZ, Audio, Frames, Turn
from lt_eval.synthetic.talker import perform

FIRST_SEED = 2_000_100
SHIFTS = range(-10, 11)
FEW_SHIFTS = (-10, -3, 0, 4, 10)
"""Where the condition is not the usual one."""

NOISE_DB = (40, 20, 10, 5, 0, -5, -10)
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)

CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "2 seconds": {"seconds": 2.0},
    "blur 1.2": {"blur": 1.2},
    "blur 4": {"blur": 4.0},
    "crf 40": {"crf": 40},
    "128 px": {"size": 128},
    "512 px": {"size": 512},
}


def compared(network: SlimSyncNet, lips: torch.Tensor, audio: Audio) -> SyncResult:
    """Return the result of lips' embeddings, all T - 4 of them, and audio."""
    kept = window_count(len(lips) + LIP_FRAMES - 1, len(audio))
    return sync_of(lips[:kept], network.audio(mfcc(audio))[:kept])


def delayed(audio: Audio, shift: int) -> Audio:
    """Return audio that comes `shift` frames later, as long as before."""
    by = round(shift / FPS * SAMPLE_RATE_HZ)
    moved = np.zeros_like(audio)
    moved[max(by, 0) : len(audio) + min(by, 0)] = audio[max(-by, 0) : len(audio) - max(by, 0)]
    return moved


def coded(audio: Audio) -> Audio:
    """Return audio as it comes out of an mp4 file."""
    black = np.zeros((len(audio) * int(FPS) // SAMPLE_RATE_HZ, 16, 16, 3), np.uint8)
    return through_mp4(black, audio)[1]


def haar_crops(frames: Frames, audio: Audio) -> tuple[Frames, slice] | None:
    """Return the crops and the samples of the longest track that the Haar cascade finds; None where all are short."""
    shots = [(0, len(frames))]
    footage = Footage(frames, np.arange(len(frames)), shots, pcm16(audio))
    nowhere = MediaClip(Path("in memory"))
    boxes = boxes_of(footage, nowhere, Turn(), "haar", None, _no_detector, "")
    long = [track for track in tracks_in(shots, boxes) if track.seen > Sync().min_track]
    if not long:
        return None
    track = max(long, key=len)
    samples = slice(track.first * SAMPLES_PER_FRAME, track.end * SAMPLES_PER_FRAME)
    return crop(frames[track.first : track.end], track.boxes), samples


def _no_detector() -> Detector:
    raise AssertionError("boxes come from the Haar cascade")


def noisy(audio: Audio, decibels: float, seed: int) -> Audio:
    """Return audio with white noise at a signal-to-noise ratio."""
    rng = np.random.Generator(np.random.PCG64([seed, 21]))
    noise = rng.normal(0, audio.std() / 10 ** (decibels / 20), len(audio))
    return np.clip(audio + noise, -1, 1).astype(np.float32)


def mixed_up(crops: Frames, share: float, seed: int) -> Frames:
    """Return crops of which a share shows other moments of the clip."""
    rng = np.random.Generator(np.random.PCG64([seed, 22]))
    index = np.arange(len(crops))
    replaced = rng.permutation(len(crops))[: round(share * len(crops))]
    index[replaced] = rng.integers(0, len(crops), len(replaced))
    return np.asarray(crops[index])


def separation(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the area under the ROC curve: how often one of `higher` is above one of `lower`."""
    return float(np.mean(np.asarray(higher)[:, None] > np.asarray(lower)))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the deciles that a reader needs."""
    percent = np.percentile(values, [0, 10, 50, 90, 100])
    return dict(zip(("min", "p10", "median", "p90", "max"), percent.round(3).tolist(), strict=True))


@dataclass
class Offsets:
    """How often planted shifts are found, in one condition."""

    shifts: Sequence[int]
    clips: int = 0
    faceless: int = 0
    wrong: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, network: SlimSyncNet, seed: int, crops: Frames, audio: Audio, samples: slice = slice(None)) -> None:
        """Plant every shift in one clip; the crops belong to some of its samples."""
        lips = network.lips(crops)
        self.clips += 1
        for shift in self.shifts:
            found = compared(network, lips, coded(delayed(audio, shift))[samples]).offset_frames
            if found != -shift:
                self.wrong.append((seed, shift, found))

    def facts(self) -> dict[str, Any]:
        """Return shares of all (clip, shift) pairs and of clips, and the first pairs that failed."""
        trials = self.clips * len(self.shifts)
        far = [shift for _, shift, found in self.wrong if abs(found + shift) > 1]
        return {
            "clips": self.clips,
            "without a track": self.faceless,
            "shifts": len(self.shifts),
            "exact": round(1 - len(self.wrong) / trials, 4),
            "within 1 frame": round(1 - len(far) / trials, 4),
            "clips with all exact": round(1 - len({seed for seed, *_ in self.wrong}) / self.clips, 4),
            "wrong (seed, planted, found)": self.wrong[:20],
        }


@dataclass
class Confidences:
    """Sync-C of true clips, of clips with other sound or no movement, and along planted noise."""

    values: dict[str, list[float]] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)

    def add(self, network: SlimSyncNet, recipe: Recipe, clip: TalkerClip, other: Audio) -> None:
        """Spoil one clip in all ways."""
        audio, lips = clip.audio, network.lips(clip.crops)
        frozen = through_mp4(np.repeat(clip.frames[:1], len(clip.frames), axis=0), audio)[0]
        still = network.lips(crop_like(frozen, recipe))
        hiss = np.random.Generator(np.random.PCG64([recipe.seed, 23])).normal(0, 0.05, len(audio)).astype(np.float32)
        cases = {
            "own audio": (lips, audio),
            "another clip's audio": (lips, other),
            "frozen portrait": (still, audio),
            "frozen portrait, another's audio": (still, other),
            "digital silence": (lips, np.zeros_like(audio)),
            "white noise": (lips, hiss),
        }
        cases |= {f"noise {level} dB": (lips, noisy(audio, level, recipe.seed)) for level in NOISE_DB}
        mixed = {share: network.lips(mixed_up(clip.crops, share, recipe.seed)) for share in SHARES}
        cases |= {f"replaced {share:g}": (mixed[share], audio) for share in SHARES}
        for name, (shown, heard) in cases.items():
            result = compared(network, shown, heard)
            self.values.setdefault(name, []).append(result.confidence)
            if name == "own audio":
                self.distances.append(result.distance)

    def facts(self) -> dict[str, Any]:
        """Return distributions, how well they are apart, and how many clips fall at every step of noise."""
        own = self.values["own audio"]
        unlike = [name for name in self.values if not name.startswith(("own", "noise", "replaced"))]
        steps = {
            kind: np.array([self.values[name] for name in self.values if name.startswith(kind)])
            for kind in ("noise", "replaced")
        }
        return {
            "Sync-C": {name: spread(found) for name, found in self.values.items()},
            "mean Sync-C": {name: round(float(np.mean(found)), 3) for name, found in self.values.items()},
            "Sync-D, own audio": spread(self.distances),
            "own above (AUC)": {name: round(separation(own, self.values[name]), 4) for name in unlike},
            "clips that fall at every step": {
                kind: round(float((np.diff(found, axis=0) < 0).all(axis=0).mean()), 4) for kind, found in steps.items()
            },
        }


def crop_like(frames: Frames, recipe: Recipe) -> Frames:
    """Return the crops of a still picture, with the face box of the moving clip's first frame throughout."""
    box = np.array(perform(recipe.seed, recipe.seconds, recipe.size).box(0)) * recipe.size
    return crop(frames, np.repeat(box[None], len(frames), axis=0))


def measured(network: SlimSyncNet, clips: int, others: int, progress: Progress) -> dict[str, Any]:
    """Return everything that is measured."""
    plain = [Recipe(FIRST_SEED + k) for k in range(clips)]
    confidences = Confidences()
    offsets = {"256 px, crf 18, stated boxes": Offsets(tuple(SHIFTS)), "Haar boxes": Offsets(FEW_SHIFTS)}
    stated, haar = offsets.values()
    other = make(plain[-1]).audio
    for done, recipe in enumerate(plain, 1):
        clip = make(recipe)
        confidences.add(network, recipe, clip, other)
        other = clip.audio
        stated.add(network, recipe.seed, clip.crops, clip.audio)
        seen = haar_crops(clip.frames, clip.audio)
        if seen is None:
            haar.faceless += 1
        else:
            haar.add(network, recipe.seed, seen[0], clip.audio, seen[1])
        progress("plain", done, clips)
    for name, change in CONDITIONS.items():
        offsets[name] = Offsets(FEW_SHIFTS)
        for done, recipe in enumerate(plain[:others], 1):
            clip = make(dataclasses.replace(recipe, **change))
            offsets[name].add(network, recipe.seed, clip.crops, clip.audio)
            progress(name, done, others)
    return {"confidence": confidences.facts(), "offsets": {name: found.facts() for name, found in offsets.items()}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100, help="people of plain clips (default: %(default)s)")
    parser.add_argument("--others", type=int, default=40, help="people of each other condition (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="default: those of the package")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    digest = hashlib.sha256(options.weights.read_bytes()).hexdigest()
    with Progress() as progress:
        found = measured(load(options.weights, "cpu"), options.clips, options.others, progress)
    print(json.dumps({"weights sha256": digest} | found))


if __name__ == "__main__":
    main()
