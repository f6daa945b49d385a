"""Trains the builtin lip-sync network on the procedural talker.

The network has no downloadable parent, so whoever doubts its numbers must be able to make it again: this script draws
its own data, is seeded throughout, runs on one CPU thread, and writes the weights that the package holds.

    python benchmarks/train/slim_syncnet.py --out NEW_FOLDER             # clips: 12 minutes, once; training: 16 minutes
    python benchmarks/train/slim_syncnet.py --clips 2 --held-out 2 --steps 2 --out TRIAL

OUT receives slim_syncnet.npz, slim_syncnet_curve.csv, slim_syncnet_curve.svg (with matplotlib) and slim_syncnet.json,
which is also the last line on standard output. Clips are kept in the cache folder, about 3.2 MB each; a second run
starts at once.

The loss is over time and over clips. For each 5-frame lip window, the candidates are all audio windows of the batch:
its own clip's shifts, where a frame off is already wrong, and other people's. For each clip, the mean distances of all
31 shifts, the very numbers of which Sync-C and the offset are made, must be least at shift 0; there only windows
within the clip count, because true pairs always lie at shift 0 in training and any end effect would be learnt as
a sign of it. Unrelated windows of a clip are drawn to a mean distance of sqrt 2, the distance of the zero rows that the
reference algorithm pads with.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from talker_clips import REGION, SHRINK, Recipe, cached, varied
from torch import Tensor
from torch.nn import functional as F

from lt_eval.media.spectra import mfcc
from lt_eval.metrics.nets.slim_syncnet import (
    AUDIO_ROWS,
    LIP_FRAMES,
    MOUTH,
    ROWS_PER_FRAME,
    SIDE,
    SlimSyncNet,
    embedding,
    load,
    save,
)
from lt_eval.metrics.sync_distances import sync_of, window_count
from lt_eval.paths import cache_dir
from lt_eval.progress import Progress
from lt_eval.records import Frames

FIRST_TRAINING_SEED = 1_000_100
FIRST_HELD_OUT_SEED = 1_000_900
"""The demo's people have seeds 1000 k + 6 .. 38: none of 100 .. 999 beyond the thousands is among them."""

MAX_SHIFT = 15
WINDOWS = 64
"""Lip windows of a clip that a step looks at."""

BATCH = 8
PEAK_RATE = 1.5e-3
TEMPERATURE = 12.0
CLIP_TEMPERATURE = 30.0
UNEVENNESS_WEIGHT = 10.0


@dataclass(frozen=True)
class Clip:
    """What training keeps: regions uint8 RGB [T, 92, 92, 3], and int16 samples."""

    regions: Frames
    samples: NDArray[np.int16]


@dataclass(frozen=True)
class Example:
    """One piece of one clip, changed at random: mouths uint8 [W + 4, 56, 56, 3], MFCC windows [W + 30, 13, 20].

    `heard` says which audio windows lie within the clip.
    """

    mouths: Frames
    windows: NDArray[np.float32]
    heard: NDArray[np.bool_]


def framing(rng: Generator) -> NDArray[np.float64]:
    """Return float64 [2, 3]: from pixels of the looked-at window to those of the region, for a box that is off."""
    zoom = np.exp(rng.uniform(np.log(0.75), np.log(1.3)))
    angle = rng.normal(0, 0.03)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([mirror, 1.0]) / zoom
    middle = np.array([112.0, 80.0])  # of the face box in the crop: zooming a box moves the mouth up or down
    shift = rng.uniform(-16.0, 16.0, 2)
    corner = np.array([MOUTH[1].start, MOUTH[0].start])
    region = np.array([REGION[1].start, REGION[0].start])
    # window pixel w is crop pixel SHRINK w + corner; a wrong box shows matrix (that + shift - middle) + middle there
    offset = (matrix @ (corner + shift - middle) + middle - region) / SHRINK
    return np.column_stack([matrix, offset])


def seen(regions: Frames, rng: Generator) -> Frames:
    """Return uint8 [T, 56, 56, 3] of regions [T, 92, 92, 3]: other boxes, light, blur, noise and dropped frames."""
    index = np.arange(len(regions))
    if rng.random() < 0.15:  # as a clip of another rate looks after resampling
        rate = rng.uniform(0.6, 0.95)
        index = np.clip(np.floor(np.floor((index + 0.5) * rate + rng.random()) / rate).astype(int), 0, len(index) - 1)
    matrix = framing(rng)
    unsteady = rng.uniform(0.0, 0.5) if rng.random() < 0.5 else 0.0
    blur = rng.uniform(0.3, 1.5) if rng.random() < 0.3 else 0.0
    levels = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.25)) * rng.uniform(0.5, 1.4) + rng.uniform(-0.15, 0.15)
    table = (np.clip(levels, 0, 1) * 255).astype(np.uint8)
    noise = rng.uniform(0.0, 6.0) if rng.random() < 0.4 else 0.0
    mouths = np.empty((len(index), SIDE, SIDE, 3), np.uint8)
    for out, place in zip(mouths, index, strict=True):
        placed = matrix.copy()
        placed[:, 2] += rng.normal(0, 1, 2) * unsteady
        picture = cv2.warpAffine(
            regions[place],
            placed,
            (SIDE, SIDE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        out[:] = cv2.GaussianBlur(picture, (0, 0), blur) if blur else picture
    lit: Frames = table[mouths]
    return np.clip(lit + rng.normal(0, noise, lit.shape), 0, 255).astype(np.uint8) if noise else lit


def heard(samples: NDArray[np.int16], rng: Generator) -> NDArray[np.float32]:
    """Return float32 samples of another loudness, perhaps with noise."""
    gain = np.exp(rng.uniform(np.log(0.05), 0.0))
    audio: NDArray[np.float64] = samples / 32768.0
    if rng.random() < 0.5:
        ratio = 10 ** (rng.uniform(10.0, 40.0) / 20)
        audio = audio + rng.normal(0, audio.std() / ratio, len(audio))
    return np.asarray(gain * audio, np.float32)


def audio_windows(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return MFCC windows float32 [n, 13, 20] of audio."""
    rows = mfcc(audio)
    return np.lib.stride_tricks.sliding_window_view(rows, AUDIO_ROWS, axis=0)[::ROWS_PER_FRAME]


def example(clip: Clip, rng: Generator) -> Example:
    """Draw a piece of a clip and change it."""
    windows = audio_windows(heard(clip.samples, rng))
    start = int(rng.integers(0, min(len(clip.regions) - LIP_FRAMES + 1, len(windows)) - WINDOWS + 1))
    place = np.arange(start - MAX_SHIFT, start + WINDOWS + MAX_SHIFT)
    within = (place >= 0) & (place < len(windows))
    mouths = seen(clip.regions[start : start + WINDOWS + LIP_FRAMES - 1], rng)
    return Example(mouths, windows[place.clip(0, len(windows) - 1)], within)


def loss_of(network: SlimSyncNet, examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss over windows, the loss over clips, and how far unrelated windows are from being sqrt 2 apart."""
    count, width = len(examples), WINDOWS + 2 * MAX_SHIFT
    pixels = torch.from_numpy(np.concatenate([one.mouths for one in examples])).permute(0, 3, 1, 2).float()
    encoded = network.encode_frames(pixels).view(count, WINDOWS + LIP_FRAMES - 1, -1)  # [B, W + 4, 64]
    lips = torch.stack([network.lip_directions(one) for one in encoded])  # [B, W, 64]
    audio = network.audio_directions(torch.from_numpy(np.concatenate([one.windows for one in examples])))
    within = torch.from_numpy(np.concatenate([one.heard for one in examples]))  # [B (W + 30)]

    alike = lips.flatten(0, 1) @ audio.T  # [B W, B (W + 30)]
    clip, place = torch.arange(count)[:, None], torch.arange(WINDOWS)
    target = (clip * width + place + MAX_SHIFT).flatten()
    by_window = F.cross_entropy((TEMPERATURE * alike).masked_fill(~within, -torch.inf), target)

    own = alike.view(count, WINDOWS, count, width)[torch.arange(count), :, torch.arange(count)]  # [B, W, W + 30]
    shifts = torch.stack([own[:, place, place + shift] for shift in range(2 * MAX_SHIFT + 1)], dim=2)
    valid = torch.stack([within.view(count, width)[:, place + shift] for shift in range(2 * MAX_SHIFT + 1)], dim=2)
    apart = (2 - 2 * shifts).clamp_min(1e-6).sqrt()  # [B, W, 31]
    distances = (apart * valid).sum(dim=1) / valid.sum(dim=1)  # [B, 31]
    by_clip = F.cross_entropy(-CLIP_TEMPERATURE * distances, torch.full((count,), MAX_SHIFT))
    far = torch.cat([distances[:, : MAX_SHIFT - 3], distances[:, MAX_SHIFT + 4 :]], dim=1).mean(dim=1)
    return by_window, by_clip, (far - 2**0.5).square().mean()


def held_out_result(network: SlimSyncNet, clips: Sequence[Clip]) -> dict[str, float]:
    """Return the share of planted shifts found, the mean Sync-C, and that with another clip's audio."""
    network.eval()
    exact, own, other = [], [], []
    inner = tuple(
        slice((part.start - kept.start) // SHRINK, (part.stop - kept.start) // SHRINK)
        for part, kept in zip(MOUTH, REGION, strict=True)
    )
    with torch.inference_mode():
        planted = [(7 * place) % 21 - 10 for place in range(len(clips))]
        sounds = [
            network.audio(mfcc(np.roll(clip.samples, 640 * shift))) for clip, shift in zip(clips, planted, strict=True)
        ]
        for place, clip in enumerate(clips):
            pixels = torch.from_numpy(np.ascontiguousarray(clip.regions[:, *inner])).permute(0, 3, 1, 2).float()
            lips = embedding(network.lip_directions(network.encode_frames(pixels)))
            kept = window_count(len(clip.regions), len(clip.samples))
            result = sync_of(lips[:kept], sounds[place][:kept])
            exact.append(result.offset_frames == -planted[place])
            own.append(result.confidence)
            other.append(sync_of(lips[:kept], sounds[place - 1][:kept]).confidence)
    network.train()
    return {
        "held_out_exact": float(np.mean(exact)),
        "held_out_confidence": float(np.mean(own)),
        "held_out_other_audio": float(np.mean(other)),
    }


def orders(count: int, rng: Generator) -> Iterator[int]:
    """Yield indices, each clip once before any comes again."""
    while True:
        yield from rng.permutation(count)


def train(
    clips: Sequence[Clip], held_out: Sequence[Clip], options: argparse.Namespace
) -> tuple[SlimSyncNet, list[dict[str, float]]]:
    """Return the trained network and the training curve."""
    torch.manual_seed(options.seed)
    rng = np.random.Generator(np.random.PCG64(options.seed))
    network = SlimSyncNet().train()
    sounds = np.concatenate([mfcc(heard(clip.samples, rng)) for clip in clips])
    network.mfcc_mean.copy_(torch.from_numpy(sounds.mean(axis=0)))
    network.mfcc_std.copy_(torch.from_numpy(sounds.std(axis=0)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, options.steps, pct_start=0.05)
    order = orders(len(clips), rng)
    curve: list[dict[str, float]] = []
    losses: list[tuple[float, float]] = []
    started = time.process_time()
    with Progress() as progress:
        for step in range(1, options.steps + 1):
            by_window, by_clip, unevenness = loss_of(network, [example(clips[next(order)], rng) for _ in range(BATCH)])
            optimiser.zero_grad()
            loss = by_window + by_clip + UNEVENNESS_WEIGHT * unevenness
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append((by_window.item(), by_clip.item()))
            if step % options.report_every == 0 or step == options.steps:
                window_loss, clip_loss = np.mean(losses, axis=0).tolist()
                result = held_out_result(network, held_out)
                spent = {"step": step, "cpu_s": round(time.process_time() - started, 1)}
                curve.append(spent | {"window_loss": window_loss, "clip_loss": clip_loss} | result)
                losses.clear()
                said = ", ".join(f"{key} {value:.3g}" for key, value in curve[-1].items() if key != "step")
                progress("training", step, options.steps, said)
    return network.eval(), curve


def write_curve(curve: Sequence[dict[str, float]], folder: Path) -> None:
    """Write the curve as CSV, and as SVG where matplotlib is installed."""
    with (folder / "slim_syncnet_curve.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, curve[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in curve)
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "slim_syncnet", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot as plt

    panels = (
        ("Loss", {"window_loss": "windows", "clip_loss": "clips"}),
        ("Held-out clips with the exact offset", {"held_out_exact": "share"}),
        ("Sync-C of held-out clips", {"held_out_confidence": "own audio", "held_out_other_audio": "another clip's"}),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 2.6), constrained_layout=True)
    for axis, (title, lines) in zip(axes, panels, strict=True):
        for key, label in lines.items():
            axis.plot([row["step"] for row in curve], [row[key] for row in curve], label=label)
        axis.set(title=title, xlabel="step", ylim=(0, None))
        axis.legend(frameon=False)
    figure.savefig(folder / "slim_syncnet_curve.svg", metadata={"Date": None})


def gather(recipes: Sequence[Recipe], folder: Path, stage: str) -> list[Clip]:
    """Return clips, making what the cache lacks."""
    with Progress() as progress:
        found = cached(recipes, folder, lambda done, total: progress(stage, done, total))
        return [Clip(regions, samples) for regions, samples in found]


def main() -> None:
    """Make the clips, train, write the weights and what there is to know of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=480, help="for training (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=24, help="for the curve (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip, at least 3 (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1600, help="default: %(default)s")
    parser.add_argument("--report-every", type=int, default=100, metavar="STEPS", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and changes (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the curve")
    parser.add_argument(
        "--clip-folder", type=Path, default=cache_dir() / "train" / "talker-1", help="default: %(default)s"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.use_deterministic_algorithms(True)
    recipes = [varied(FIRST_TRAINING_SEED + k, options.seconds) for k in range(options.clips)]
    unseen = [varied(FIRST_HELD_OUT_SEED + k, options.seconds) for k in range(options.held_out)]
    clips = gather(recipes, options.clip_folder, "clips")
    held_out = gather(unseen, options.clip_folder, "held-out clips")
    network, curve = train(clips, held_out, options)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = options.out / "slim_syncnet.npz"
    save(network, weights)
    write_curve(curve, options.out)
    facts: dict[str, Any] = {
        "clips": options.clips,
        "steps": options.steps,
        "seed": options.seed,
        "parameters": sum(value.numel() for value in network.parameters()),
        "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "cpu_s": curve[-1]["cpu_s"],
        "stored_weights": held_out_result(load(weights, "cpu"), held_out),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    (options.out / "slim_syncnet.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts), file=sys.stdout)


if __name__ == "__main__":
    main()
