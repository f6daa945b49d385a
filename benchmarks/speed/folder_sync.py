"""From clips to Sync-C and Sync-D: `lt-eval single --metric sync` against the usual way, one process a clip.

The usual way is joonson/syncnet_python's steps as syncnet-python 0.2.3 (PyPI) runs them, in its own environment, device
"cpu". It is asked for nothing more than the numbers. lt-eval does what it does by default: tracks, values and details
of every clip, intervals, tables and the HTML report; twice in each mode, the second time with its face detections kept.

Whole processes are timed, start included, in turns; medians over rounds are compared, of wall time and of processor
time (with all children), which a busy machine hardly moves. Clips are drawn. Both sides load the same seeded weights in
the published layouts. Random weights find no face, so on both sides the detector looks at every frame, and then one box
about the drawn face takes the place of what it found. syncnet-python needs ffmpeg on the PATH and an environment:

    python -m venv PEER
    PEER/bin/pip install torch==2.14.1 torchvision==0.29.1 syncnet-python==0.2.3 'scenedetect<0.7'
    python benchmarks/speed/folder_sync.py --peer-python PEER/bin/python

Mean values are printed as well, to show that the sides computed the same thing. syncnet-python stands between the two
modes: pictures pass the codecs, sound is taken from the clip and not, as joonson's own script does, from the MP3 of the
intermediate AVI.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_eval.media.encode import encode
from lt_eval.paths import cache_dir
from lt_eval.store import read_rows
from lt_eval.synthetic.talker import make_clip

FPS = 25.0
MODES = ("direct", "reference")
MIN_TRACK = 100

PEER_SCRIPT = """
import contextlib, json, sys
import numpy as np
with contextlib.redirect_stdout(sys.stderr):
    from syncnet_python import SyncNetPipeline
    folder, clip, box = sys.argv[1:3] + [json.loads(sys.argv[3])]
    pipeline = SyncNetPipeline(
        {"s3fd_weights": folder + "/sfd_face.pth", "syncnet_weights": folder + "/syncnet_v2.model"},
        device="cpu", min_track=MIN_TRACK)
    looking = pipeline.s3fd.detect_faces
    def known(*given, **options):
        looking(*given, **options)
        return np.array([[*box, 1.0]])
    pipeline.s3fd.detect_faces = known
    offsets, confidences, distances, *_ = pipeline.inference(clip)
print(json.dumps([confidences[0], distances[0], offsets[0]]))
""".replace("MIN_TRACK", str(MIN_TRACK))

OURS_SCRIPT = """
import json, sys
import numpy as np
from lt_eval import weights
from lt_eval.cli import main
from lt_eval.metrics.nets.s3fd import S3FD
box = np.array([[*json.loads(sys.argv.pop(1)), 1.0]], np.float32)
kept = sys.argv.pop(1) == "kept"
looking = S3FD.detect
def known(self, frames, *options):
    if kept:
        raise RuntimeError("nothing was kept: did a source file of lt_eval change during the benchmark?")
    looking(self, frames, *options)
    return [box] * len(frames)
S3FD.detect = known
weights.verify = lambda name, **_: weights.sha256_of(weights.path_of(name))  # seeded, so not the published digest
main()
"""

Seconds = NDArray[np.float64]
"""[wall, processor]."""


@dataclass(frozen=True)
class Bench:
    """What both sides are given.

    Attributes:
        root: scratch folder: clips/ID.mp4, weights/FILE, cache/ and run/ of lt-eval.
        peer: the Python that has syncnet-python.
        box: left, top, right, bottom of the face in pixels.
        threads: of each process.
    """

    root: Path
    peer: Path
    box: tuple[float, ...]
    threads: int

    def timed(self, *command: str | Path) -> tuple[Seconds, str]:
        """Return the seconds a process took, and what it printed; a failing one ends the benchmark."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        folders = {"LT_EVAL_CACHE": str(self.root / "cache"), "LT_EVAL_WEIGHTS": str(self.root / "weights")}
        environment = os.environ | dict.fromkeys(names, str(self.threads)) | folders
        spent, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
        wall, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))[-500:]}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
        return np.array([wall, now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime]), done.stdout


Values = Mapping[str, Sequence[float]]
"""By clip: Sync-C, Sync-D and offset."""


def make_weights(folder: Path) -> None:
    """Save seeded weights in the published layouts, scaled to what the networks see."""
    import torch

    from lt_eval.metrics.nets.inference import seeded_state
    from lt_eval.metrics.nets.s3fd import S3FDLayers
    from lt_eval.metrics.nets.syncnet import SyncNetLayers

    syncnet, s3fd = seeded_state(SyncNetLayers()), seeded_state(S3FDLayers())
    syncnet["netcnnlip.0.weight"] /= 128
    syncnet["netcnnaud.0.weight"] /= 16
    s3fd["vgg.0.weight"] /= 64
    folder.mkdir(parents=True)
    torch.save(syncnet, folder / "syncnet_v2.model")
    torch.save(s3fd, folder / "sfd_face.pth")


def make_clips(folder: Path, count: int, seconds: float, size: int) -> tuple[float, ...]:
    """Draw clips, and return the mean box of the faces in pixels."""
    boxes = []
    for index in range(count):
        clip = make_clip(index, seconds, size, FPS)
        encode(folder / f"clip{index:02}.mp4", clip.frames, FPS, clip.audio, preset="veryfast")
        boxes.append(clip.boxes.mean(axis=0) * size)
    return tuple(float(edge) for edge in np.mean(boxes, axis=0).round(1))


def run_peer(bench: Bench) -> tuple[Seconds, Values]:
    """Score every clip the usual way, one process each."""
    total, values = np.zeros(2), {}
    for clip in sorted((bench.root / "clips").iterdir()):
        arguments = (bench.root / "weights", clip, json.dumps(bench.box))
        seconds, text = bench.timed(bench.peer, "-c", PEER_SCRIPT, *arguments)
        total += seconds
        values[clip.stem] = json.loads(text.splitlines()[-1])
    return total, values


def run_ours(bench: Bench, mode: str, *, kept: bool) -> tuple[Seconds, Values]:
    """Score every clip in one process, in a new run folder; `kept` leaves the detections of earlier runs."""
    out = bench.root / "run"
    shutil.rmtree(out, ignore_errors=True)
    if not kept:
        shutil.rmtree(bench.root / "cache", ignore_errors=True)
    options: list[str | Path] = ["--reference", bench.root / "clips", "--metric", "sync", "--sync-mode", mode]
    options += ["--device", "cpu", "--threads", str(bench.threads), "--out", out, "--set", "metric.sync.faces=s3fd"]
    words = (json.dumps(bench.box), "kept" if kept else "new")
    seconds, _ = bench.timed(sys.executable, "-c", OURS_SCRIPT, *words, "single", *options)
    rows = [row for row in read_rows(out) if row.metric == "sync"]
    if failed := [row.failure for row in rows if row.failure]:
        sys.exit(f"clips without values: {failed}")
    return seconds, {row.sample: list(row.values.values())[:3] for row in rows}


def run_round(bench: Bench) -> tuple[dict[str, Seconds], dict[str, Values]]:
    """Run every way once."""
    taken, values = {}, {}
    taken["usual way"], values["usual way"] = run_peer(bench)
    for mode in MODES:
        taken[f"lt-eval, {mode}"], values[mode] = run_ours(bench, mode, kept=False)
        taken[f"lt-eval, {mode}, detections kept"], _ = run_ours(bench, mode, kept=True)
    return taken, values


def report(found: Mapping[str, Seconds], values: Mapping[str, Values], rounds: int, clips: int) -> str:
    """Return the tables of a run in Markdown."""
    lines = [
        f"| median of {rounds} rounds | wall | processor | wall, a clip | usual way / this, wall | processor |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, (wall, processor) in found.items():
        times = found["usual way"] / found[name]
        lines.append(
            f"| {name} | {wall:.1f} s | {processor:.1f} s | {wall / clips:.2f} s | {times[0]:.2f}x | {times[1]:.2f}x |"
        )
    lines += ["", "| mean of clips | Sync-C | Sync-D | offset |", "|---|---:|---:|---:|"]
    for name, of_clips in values.items():
        means = np.mean(list(of_clips.values()), axis=0)
        lines.append(f"| {name} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    return "\n".join(lines)


def versions(peer: Path) -> str:
    """Say what is compared."""
    import torch

    names = ("syncnet-python", "torch", "scenedetect", "numpy")
    asked = f"from importlib.metadata import version; print(*map(version, {names}))"
    done = subprocess.run([peer, "-c", asked], capture_output=True, text=True, check=True)
    theirs = ", ".join(f"{name} {number}" for name, number in zip(names, done.stdout.split(), strict=True))
    return f"Peer: {theirs}. Ours: torch {torch.__version__}, numpy {np.__version__}"


def default_peer() -> Path | None:
    """Return the Python of the full environment, where it was built."""
    built = (cache_dir() / "environments").glob("full-*/built.txt")
    return next((marker.parent / "bin" / "python" for marker in sorted(built)), None)


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="the Python that has syncnet-python; default: make full's")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip; more than 4, the least track's length")
    parser.add_argument("--size", type=int, default=512, help="side of the frames in pixels")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="write the tables into this file as well")
    asked: Any = parser.parse_args()
    peer = asked.peer_python or default_peer()
    if peer is None:
        parser.error("no environment with syncnet-python; see --help")
    with tempfile.TemporaryDirectory(prefix="sync-speed-") as scratch:
        root = Path(scratch)
        make_weights(root / "weights")
        bench = Bench(root, peer, make_clips(root / "clips", asked.clips, asked.seconds, asked.size), asked.threads)
        head = (
            f"{asked.clips} clips of {asked.seconds:g} s, {asked.size}x{asked.size}; {asked.threads} threads; face box "
            f"{bench.box}. {versions(peer)}."
        )
        print(head, flush=True)
        rounds = []
        for number in range(asked.rounds):
            rounds.append(run_round(bench))
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            walls = "; ".join(f"{name} {seconds[0]:.1f} s" for name, seconds in rounds[-1][0].items())
            print(f"round {number + 1}: {walls}; load average {load}", flush=True)
    found = {name: np.median([taken[name] for taken, _ in rounds], axis=0) for name in rounds[0][0]}
    text = report(found, rounds[-1][1], len(rounds), asked.clips)
    print(f"\n{text}\n")
    if asked.out:
        asked.out.write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    print(json.dumps({name: seconds.round(2).tolist() for name, seconds in found.items()}))


if __name__ == "__main__":
    main()
