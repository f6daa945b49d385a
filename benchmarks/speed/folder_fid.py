"""From folders of clips to FID: `lt-eval single` against the usual way, on the same clips, weights and threads.

The usual way is that of most papers' code: every frame of every clip is written as a PNG by ffmpeg, then pytorch-fid
(mseitzer, PyPI 0.3.0) runs once a method, which computes the features of the references each time. The variant that
keeps the references' statistics (`--save-stats`, once) is measured as well. lt-eval does what it does by default with
`--metric fid`: FID, KID, FID-infinity, intervals, floors, tables and the HTML report.

Whole processes are timed, in turns, which side goes first changing from round to round; medians are compared, of wall
time and of processor time (with all children), which a busy machine hardly moves. Clips are drawn and weights are
seeded, so nothing is downloaded. pytorch-fid needs torchvision, hence an environment of its own, and ffmpeg must be on
the PATH:

    python -m venv PEER && PEER/bin/pip install torch==2.14.1 torchvision==0.29.1 pytorch-fid==0.3.0 'scipy<1.18'
    python benchmarks/speed/folder_fid.py --peer-python PEER/bin/python

scipy 1.18 removed an argument that pytorch-fid 0.3.0 passes.

pytorch-fid's start and matrix square root take the same time however many frames there are, so few frames flatter
lt-eval. The last ratio leaves both out: it compares what a frame costs, and is what large sets tend to.
"""

from __future__ import annotations

import argparse
import json
import os
import re
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

import cv2
import numpy as np
from numpy.typing import NDArray

from lt_eval.media.encode import encode
from lt_eval.store import read_rows, read_summary
from lt_eval.synthetic.talker import make_clip

FPS = 25.0
WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
REFERENCE = "reference"

Seconds = NDArray[np.float64]
"""[wall, processor]."""


def clocks() -> Seconds:
    """Return wall time, and processor time of all processes that have ended so far."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), spent.ru_utime + spent.ru_stime])


@dataclass(frozen=True)
class Bench:
    """What both sides are given.

    Attributes:
        root: scratch folder; clips/SET/ID.mp4 below it.
        methods: names of the sets that are compared with the reference.
        weights: the state dict that both load, where pytorch-fid looks for its download.
        peer: the Python that has pytorch-fid.
        threads: of each process; also pytorch-fid's loader processes.
        device: "cpu", "cuda" ...
    """

    root: Path
    methods: tuple[str, ...]
    weights: Path
    peer: Path
    threads: int
    device: str

    @property
    def environment(self) -> dict[str, str]:
        """Of every process: the weights instead of a download, and the same threads."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        return os.environ | threads | {"TORCH_HOME": str(self.weights.parents[2])}

    def clips(self, name: str) -> Path:
        """Return the folder of one set."""
        return self.root / "clips" / name

    def timed(self, command: Sequence[str | Path]) -> tuple[Seconds, str]:
        """Return the seconds a process took, and what it printed; a failing one ends the benchmark."""
        start = clocks()
        done = subprocess.run(
            [str(word) for word in command], env=self.environment, capture_output=True, text=True, check=False
        )
        seconds = clocks() - start
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
        return seconds, done.stdout


@dataclass(frozen=True)
class Peer:
    """What the usual way took.

    Attributes:
        dump: by set, writing its PNGs.
        each: by method, pytorch-fid on two folders.
        saved: by method, pytorch-fid on the references' statistics and a folder; by REFERENCE, making those. Or empty.
        fid: by method.
    """

    dump: Mapping[str, Seconds]
    each: Mapping[str, Seconds]
    saved: Mapping[str, Seconds]
    fid: Mapping[str, float]

    def stages(self, methods: Sequence[str]) -> dict[str, Seconds]:
        """Return the seconds of each stage for some of the methods."""
        dumping = total(self.dump, (REFERENCE, *methods))
        each = total(self.each, methods)
        found = {"PNG dump": dumping, "pytorch-fid": each, "usual way": dumping + each}
        if self.saved:
            # the two differ by one pass over the references
            found["of pytorch-fid: passes over frames"] = 2 * (each - total(self.saved, methods))
            found["usual way, statistics saved"] = dumping + total(self.saved, (REFERENCE, *methods))
        return found


@dataclass(frozen=True)
class Ours:
    """What one `lt-eval single` took: in all, and within it for decoding and features of all clips (wall)."""

    total: Seconds
    features: float
    fid: Mapping[str, float]

    def stages(self) -> dict[str, Seconds]:
        """Return the seconds of each stage."""
        return {"lt-eval": self.total, "of lt-eval: decoding and features": np.array([self.features, np.nan])}


def total(seconds: Mapping[str, Seconds], names: Sequence[str]) -> Seconds:
    """Return the sum of what these took."""
    return np.asarray(np.sum([seconds[name] for name in names], axis=0))


def make_sets(bench: Bench, clips: int, frames: int, size: int) -> None:
    """Draw the references, and blur them more from method to method."""
    for index in range(clips):
        clip = make_clip(index, frames / FPS, size, FPS)
        encode(bench.clips(REFERENCE) / f"clip{index}.mp4", clip.frames, FPS, clip.audio, preset="veryfast")
        for strength, method in enumerate(bench.methods, 1):
            sigma = 0.4 * 2**strength * size / 512
            blurred = np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), sigma), np.uint8) for f in clip.frames])
            encode(bench.clips(method) / f"clip{index}.mp4", blurred, FPS, clip.audio, preset="veryfast")


def make_weights(root: Path) -> Path:
    """Save seeded weights in the official layout, and return the file."""
    import torch

    from lt_eval.metrics.nets.inception import InceptionV3
    from lt_eval.metrics.nets.inference import seeded_state

    path = root / "torch" / "hub" / "checkpoints" / WEIGHTS
    path.parent.mkdir(parents=True)
    torch.save(seeded_state(InceptionV3()), path)
    return path


def dump(bench: Bench, name: str) -> Seconds:
    """Write every frame of a set as a PNG, as ffmpeg does by default; return the seconds."""
    folder = bench.root / "png" / name
    folder.mkdir(parents=True)
    command: list[str | Path] = ["ffmpeg", "-v", "error", "-i"]
    clips = sorted(bench.clips(name).iterdir())
    taken = [bench.timed([*command, clip, folder / f"{clip.stem}_%05d.png"])[0] for clip in clips]
    return np.asarray(np.sum(taken, axis=0))


def run_peer(bench: Bench, *, saved: bool) -> Peer:
    """Go the usual way once, for all methods."""
    png = bench.root / "png"
    shutil.rmtree(png, ignore_errors=True)
    dumped = {name: dump(bench, name) for name in (REFERENCE, *bench.methods)}
    options = ["--device", bench.device, "--num-workers", str(bench.threads)]
    command: list[str | Path] = [bench.peer, "-m", "pytorch_fid", *options]
    each, kept, fid = {}, {}, {}
    for method in bench.methods:
        each[method], text = bench.timed([*command, png / REFERENCE, png / method])
        fid[method] = float(text.rpartition("FID:")[2])
    if saved:
        statistics_file = png / "reference.npz"
        kept[REFERENCE] = bench.timed([*command, "--save-stats", png / REFERENCE, statistics_file])[0]
        for method in bench.methods:
            kept[method] = bench.timed([*command, statistics_file, png / method])[0]
    return Peer(dumped, each, kept, fid)


def run_ours(bench: Bench, methods: Sequence[str]) -> Ours:
    """Run lt-eval in a new run folder."""
    out = bench.root / "run"
    shutil.rmtree(out, ignore_errors=True)
    command: list[str | Path] = [sys.executable, "-m", "lt_eval", "single", "--metric", "fid", "--out", out]
    command += ["--reference", bench.clips(REFERENCE), "--threads", str(bench.threads), "--device", bench.device]
    command += ["--set", f"metric.fid.weights_file={bench.weights}"]
    for method in methods:
        command += ["--clips", f"{method}={bench.clips(method)}"]
    seconds, _ = bench.timed(command)
    features = sum(float(row.details["seconds"]) for row in read_rows(out))
    cells = [cell for cell in read_summary(out).cells if re.match(r"FID( \(|$)", cell.column)]
    return Ours(seconds, features, {cell.method: cell.value for cell in cells if cell.value is not None})


def medians(rounds: Sequence[tuple[Peer, Ours, Ours]], methods: Sequence[str]) -> dict[str, dict[str, Seconds]]:
    """Return the median seconds of each stage, for the first method alone and for all."""
    found: dict[str, dict[str, Seconds]] = {}
    for label, used, place in (("one", methods[:1], 1), ("all", methods, 2)):
        runs = [peer.stages(used) | (one, several)[place - 1].stages() for peer, one, several in rounds]
        found[label] = {stage: np.median([run[stage] for run in runs], axis=0) for stage in runs[0]}
    return found


TOTALS = ("usual way", "lt-eval")
RATIOS = {
    "usual way / lt-eval": (("usual way",), "lt-eval"),
    "usual way, statistics saved / lt-eval": (("usual way, statistics saved",), "lt-eval"),
    "the same, a frame": (("PNG dump", "of pytorch-fid: passes over frames"), "of lt-eval: decoding and features"),
}


def ratios(stages: Mapping[str, Seconds]) -> dict[str, Seconds]:
    """Return how many times longer the usual way takes."""
    known = {name: parts for name, parts in RATIOS.items() if all(part in stages for part in parts[0])}
    return {name: total(stages, peer) / stages[ours] for name, (peer, ours) in known.items()}


def report(found: Mapping[str, Mapping[str, Seconds]], rounds: Sequence[tuple[Peer, Ours, Ours]], bench: Bench) -> str:
    """Return the tables of a run in Markdown."""
    count = len(bench.methods)
    lines = [
        f"| median of {len(rounds)} rounds | one method, wall | processor | {count} methods, wall | processor |",
        "|---|---:|---:|---:|---:|",
    ]
    one, all_ = found["one"], found["all"]
    lines += [row(stage, (*one[stage], *all_[stage]), " s") for stage in one]
    ours, theirs = ratios(one), ratios(all_)
    lines += [row(f"**{name}**", (*ours[name], *theirs[name]), "x") for name in ours]
    lines += ["", "| FID | pytorch-fid | lt-eval | relative difference |", "|---|---:|---:|---:|"]
    peer_fid, our_fid = rounds[-1][0].fid, rounds[-1][2].fid
    for method in bench.methods:
        off = abs(our_fid[method] / peer_fid[method] - 1)
        lines.append(f"| {method} | {peer_fid[method]:.6f} | {our_fid[method]:.6f} | {off:.1e} |")
    return "\n".join(lines)


def row(name: str, values: Sequence[float], unit: str) -> str:
    """Return a line of the table; what was not measured is a dash."""
    digits = 2 if unit == "x" else 1
    return f"| {name} | " + " | ".join("-" if np.isnan(v) else f"{v:.{digits}f}{unit}" for v in values) + " |"


def versions(peer: Path) -> str:
    """Say what is compared, and where."""
    import torch

    names = ("pytorch-fid", "torch", "torchvision", "numpy", "scipy")
    asked = f"from importlib.metadata import version; print(*map(version, {names}))"
    done = subprocess.run([peer, "-c", asked], capture_output=True, text=True, check=True)
    theirs = ", ".join(f"{name} {number}" for name, number in zip(names, done.stdout.split(), strict=True))
    return f"Peer: {theirs}. Ours: torch {torch.__version__}, numpy {np.__version__}"


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True, help="the Python that has pytorch-fid")
    parser.add_argument("--clips", type=int, default=5, help="a set")
    parser.add_argument("--frames", type=int, default=50, help="a clip")
    parser.add_argument("--size", type=int, default=512, help="side of the frames in pixels")
    parser.add_argument("--methods", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-saved", action="store_true", help="leave out the variant with saved statistics")
    parser.add_argument("--out", type=Path, help="write the tables into this file as well")
    asked: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="folder-fid-") as scratch:
        root = Path(scratch)
        names = tuple(f"blur{strength}" for strength in range(1, asked.methods + 1))
        bench = Bench(root, names, make_weights(root), asked.peer_python, asked.threads, asked.device)
        make_sets(bench, asked.clips, asked.frames, asked.size)
        head = (
            f"{asked.clips} clips of {asked.frames} frames, {asked.size}x{asked.size}, a set; {asked.threads} threads; "
            f"{asked.device}. {versions(bench.peer)}."
        )
        print(head, flush=True)
        rounds: list[tuple[Peer, Ours, Ours]] = []
        for number in range(asked.rounds):
            peer = None if number % 2 else run_peer(bench, saved=not asked.no_saved)
            ours = run_ours(bench, names[:1]), run_ours(bench, names)
            rounds.append((peer or run_peer(bench, saved=not asked.no_saved), *ours))
            seconds = [f"{of[name][0]:.1f}" for of in medians(rounds[-1:], names).values() for name in TOTALS]
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            print(
                f"round {number + 1}: one method {seconds[0]} s, lt-eval {seconds[1]} s; {len(names)} methods "
                f"{seconds[2]} s, lt-eval {seconds[3]} s; load average {load}",
                flush=True,
            )
        found = medians(rounds, names)
        text = report(found, rounds, bench)
    print(f"\n{text}\n")
    if asked.out:
        asked.out.write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    plain = {
        which: {k: np.round(v, 2).tolist() for k, v in (stages | ratios(stages)).items()}
        for which, stages in found.items()
    }
    print(json.dumps(plain).replace("NaN", "null"))


if __name__ == "__main__":
    main()
