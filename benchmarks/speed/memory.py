"""Peak memory of `lt-eval single` as the number of clips grows: it is to stay flat.

Whole runs in processes of their own, report included, with two metrics:

    builtin   FID and FVD with the builtin networks, everything as in a real run
    wide      features as wide as Inception's (2048 a frame) but drawn at random from the clip's checksum instead of
              computed, so that a thousand clips take minutes: the statistics see what they would see of the real
              network, and the network's own share, which knows nothing of the number of clips, is left out

Every run compares N clips with N references; all 2 N files differ. Peak memory is VmHWM, the most that the process
ever held, read from Linux' /proc until it ends.

    python benchmarks/speed/memory.py [--numbers 10 100 300 1000] [--plot memory.svg]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.metrics.fid import FID

if TYPE_CHECKING:
    from lt_eval.interfaces import Clip, Influence
    from lt_eval.records import Features

FPS = 25.0
KINDS = {"builtin": ["--weights", "builtin"], "wide": ["--metric", "memory:Wide"]}
_FID = FID(weights="builtin")


@dataclass(frozen=True)
class Wide:
    """FID's statistics on random features of Inception's width."""

    columns = _FID.columns

    def features(self, clip: Clip) -> Features:
        """Return float32 [T, 2048], the same for the same file."""
        rng = np.random.default_rng(zlib.crc32(clip.path.read_bytes()))
        return np.maximum(rng.standard_normal((len(clip.frames), 2048), dtype=np.float32), 0)

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        """Return FID, KID and FID-infinity."""
        return _FID.distance(generated, reference)

    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        """Return each clip's pull."""
        return _FID.influence(generated, reference)

    def floor(self, reference: Sequence[Features], clips: int) -> Mapping[str, float]:
        """Return the floors."""
        return _FID.floor(reference, clips)


def make_clips(root: Path, count: int, frames: int, size: int) -> None:
    """Write `count` references and as many clips of one method, all different."""
    import cv2

    from lt_eval.media.encode import encode
    from lt_eval.synthetic.talker import make_clip

    people = [make_clip(seed, frames / FPS, size, FPS).frames for seed in range(4)]
    for index in range(count):
        moved = np.roll(people[index % len(people)], (index // 4 % size, index // 4 // size), axis=(1, 2))
        blurred = np.stack([np.asarray(cv2.GaussianBlur(frame, (0, 0), 1.5), np.uint8) for frame in moved])
        for name, pixels in (("reference", moved), ("method", blurred)):
            encode(root / name / f"clip{index:05d}.mp4", pixels, FPS, None, preset="ultrafast")


def take(source: Path, target: Path, count: int) -> None:
    """Make folders that hold the first `count` clips, without copying them."""
    for folder in ("reference", "method"):
        (target / folder).mkdir(parents=True)
        for clip in sorted((source / folder).iterdir())[:count]:
            (target / folder / clip.name).hardlink_to(clip)


def peak_mib(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Return a process' peak memory in MiB and its seconds; a failing one ends the benchmark."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        peak_kib = 0
        while process.poll() is None:
            try:
                text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError):
                break
            known = [line for line in text.splitlines() if line.startswith("VmHWM:")]
            peak_kib = int(known[0].split()[1]) if known else peak_kib
            time.sleep(0.02)
        if process.wait():
            log.seek(0)
            sys.exit(f"{' '.join(command)}\nended with {process.returncode}:\n{log.read()[-3000:]}")
    return peak_kib / 1024, time.perf_counter() - start


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the curves."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "memory"}):
        figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
        for kind in dict.fromkeys(row["metric"] for row in rows):
            own = [row for row in rows if row["metric"] == kind]
            axes.plot([row["clips"] for row in own], [row["peak_mib"] for row in own], marker="o", label=kind)
        axes.set(xscale="log", xlabel="clips a set", ylabel="peak memory, MiB", ylim=(0, None))
        axes.set_xticks([row["clips"] for row in rows], [str(row["clips"]) for row in rows])
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="+", default=[10, 100, 300, 1000], help="clips a set")
    parser.add_argument("--metrics", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--frames", type=int, default=16, help="a clip")
    parser.add_argument("--size", type=int, default=128, help="side of the frames in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="write the curves as an SVG file")
    asked: Any = parser.parse_args()
    here = str(Path(__file__).resolve().parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))}
    rows: list[dict[str, Any]] = []
    print("| metric | clips a set | frames | peak MiB | seconds |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
        root = Path(scratch)
        make_clips(root / "all", max(asked.numbers), asked.frames, asked.size)
        for number in asked.numbers:
            take(root / "all", root / str(number), number)
        for kind in asked.metrics:
            for number in asked.numbers:
                clips, out = root / str(number), root / f"run-{kind}-{number}"
                command = [sys.executable, "-m", "lt_eval", "single", *KINDS[kind], "--out", str(out)]
                command += ["--reference", str(clips / "reference"), "--clips", f"method={clips / 'method'}"]
                peak, seconds = peak_mib([*command, "--threads", str(asked.threads), "--device", "cpu"], environment)
                print(f"| {kind} | {number} | {2 * number * asked.frames} | {peak:.0f} | {seconds:.0f} |", flush=True)
                rows.append({"metric": kind, "clips": number, "peak_mib": round(peak, 1), "seconds": round(seconds, 1)})
    if asked.plot:
        plot(rows, asked.plot)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
