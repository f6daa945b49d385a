"""The Frechet distance against scipy's matrix square root, the way pytorch-fid computes it, in one run.

    python benchmarks/speed/frechet.py --out benchmarks/speed/frechet.md      # about five minutes on two cores
    python benchmarks/speed/frechet.py --width 512 --rows 3000                # a quick look

On a busy machine set OMP_NUM_THREADS=1: threads that wait for each other make both slow at random.

Each repeat times both, one after the other, on the same features; the report gives medians and the ratio of the
medians. What is true is found apart: by a closed form, or from QR factors of the rows, which square nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import linalg

from lt_eval.metrics.frechet import frechet_distance, moments
from lt_eval.records import Features

Matrix = NDArray[np.float64]
T = TypeVar("T")

CLIPS = 100

Maker = Callable[[int], tuple[list[Features], list[Features], float | None]]
"""Seed -> generated clips, reference clips, and their distance where it is known."""


class Held(list[Features]):
    """Clips whose moments are remembered, as those of a stored reference are."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


@dataclass
class Times:
    """Wall and processor seconds of each step, one entry a repeat, and the values found."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)
    ours: float = 0.0
    peers: float = 0.0
    truth: float = 0.0

    def take(self, step: str, call: Callable[[], T]) -> T:
        """Run and time one step."""
        started, spent = time.perf_counter(), time.process_time()
        result = call()
        self.wall.setdefault(step, []).append(time.perf_counter() - started)
        self.processor.setdefault(step, []).append(time.process_time() - spent)
        return result

    def ratios(self, peers: Sequence[str], ours: Sequence[str]) -> str:
        """Return how much faster our steps are than the peer's, by wall and by processor time."""
        wall, processor = (
            sum(statistics.median(clock[step]) for step in peers) / sum(statistics.median(clock[step]) for step in ours)
            for clock in (self.wall, self.processor)
        )
        return f"**{wall:.1f} x** ({processor:.1f} x in processor time)"


def sqrtm_distance(first: tuple[Matrix, Matrix], second: tuple[Matrix, Matrix]) -> float:
    """Return pytorch-fid's value of two (mean, covariance) pairs; its `disp` argument is gone from scipy 1.18 on."""
    shift = first[0] - second[0]
    root = linalg.sqrtm(first[1].dot(second[1]))
    return float(shift.dot(shift) + np.trace(first[1]) + np.trace(second[1]) - 2 * np.trace(root.real))


def gaussian_of(clips: Sequence[Features]) -> tuple[Matrix, Matrix]:
    """Return mean and covariance as pytorch-fid does: all rows in one float64 array, np.cov."""
    rows = np.concatenate(clips).astype(np.float64)
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


def qr_distance(generated: Sequence[Features], reference: Sequence[Features]) -> float:
    """Return the distance from triangular factors of the centred rows and their singular values."""
    means: list[Matrix] = []
    factors: list[Matrix] = []
    for clips in (generated, reference):
        rows = np.concatenate(clips).astype(np.float64)
        means.append(rows.mean(axis=0))
        factors.append(np.asarray(np.linalg.qr((rows - means[-1]) / np.sqrt(len(rows) - 1), mode="r")))
    overlap = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + sum(np.vdot(each, each) for each in factors) - 2 * overlap)


def compare(make: Maker, repeats: int) -> Times:
    """Time every step of both on the features of each repeat."""
    times = Times()
    for repeat in range(repeats):
        first, second, truth = make(repeat)
        generated, reference = Held(first), Held(second)
        gaussians = times.take("peer: statistics", lambda: (gaussian_of(generated), gaussian_of(reference)))  # noqa: B023
        times.peers = times.take("peer: distance", lambda: sqrtm_distance(*gaussians))  # noqa: B023
        times.take("ours: statistics", lambda: (moments(generated), moments(reference)))  # noqa: B023
        times.ours = times.take("ours: distance", lambda: frechet_distance(generated, reference))  # noqa: B023
        times.take("ours: distance, reference known", lambda: frechet_distance(generated, reference))  # noqa: B023
        print({step: round(seconds[-1], 2) for step, seconds in times.wall.items()}, file=sys.stderr)
    times.truth = qr_distance(generated, reference) if truth is None else truth
    return times


def mixed(rows: int, width: int, rectified: bool) -> Maker:
    """Return a maker of two sets of correlated rows, their mixes and means a little apart."""

    def make(seed: int) -> tuple[list[Features], list[Features], None]:
        rng = np.random.default_rng(seed)
        mix = rng.standard_normal((width, width)) / np.sqrt(np.arange(1, width + 1))[:, None]
        sides = []
        for shift, scale in ((0.0, 1.0), (0.05, 0.9)):
            x = rng.standard_normal((rows, width)) @ (scale * mix) + shift
            x += 0.05 * rng.standard_normal(x.shape)  # no real feature is an exact mix of the others
            sides.append(np.array_split((np.maximum(x, 0.0) if rectified else x).astype(np.float32), CLIPS))
        return sides[0], sides[1], None

    return make


def with_closed_form(rows: int, width: int) -> Maker:
    """Return a maker of two rank-deficient float64 sets of known distance: chosen scales on axes at chosen angles."""

    def make(seed: int) -> tuple[list[Features], list[Features], float]:
        rng = np.random.default_rng(seed)
        rank = rows - 1
        first, second = rng.uniform(0.5, 3.0, (2, rank))
        angles = rng.uniform(0.0, 1.4, rank)
        axes, _ = np.linalg.qr(rng.standard_normal((width, 2 * rank)))
        turned = np.cos(angles) * axes[:, :rank] + np.sin(angles) * axes[:, rank:]
        shift = rng.standard_normal(width)
        sets = []
        for scales, basis, mean in ((first, axes[:, :rank], 0.0), (second, turned, shift)):
            x = rng.standard_normal((rows, rank))
            white, _ = np.linalg.qr(x - x.mean(axis=0))
            sets.append(np.array_split(np.sqrt(rows - 1) * white * scales @ basis.T + mean, CLIPS))
        known = shift @ shift + (first**2 + second**2 - 2 * first * second * np.cos(angles)).sum()
        return sets[0], sets[1], float(known)

    return make


def section(title: str, times: Times, truth: str) -> str:
    """Return the report of one comparison."""
    lines = [f"## {title}", "", "| step | median s | each | median processor s |", "| --- | --- | --- | --- |"]
    for step, wall in times.wall.items():
        each = ", ".join(f"{seconds:.2f}" for seconds in wall)
        processor = statistics.median(times.processor[step])
        lines.append(f"| {step} | {statistics.median(wall):.2f} | {each} | {processor:.2f} |")
    peer, own = ["peer: statistics", "peer: distance"], ["ours: statistics", "ours: distance"]
    lines += [
        "",
        f"Faster: distance from statistics {times.ratios(peer[1:], own[1:])}; against a reference already factored "
        f"{times.ratios(peer[1:], ['ours: distance, reference known'])}; from features, statistics included, "
        f"{times.ratios(peer, own)}.",
        "",
        f"Value: ours {times.ours:.12g}, sqrtm {times.peers:.12g}, relative difference "
        f"{abs(times.ours / times.peers - 1):.1e}.",
    ]
    errors = [abs(value / times.truth - 1) for value in (times.ours, times.peers)]
    lines.append(f"{truth} {times.truth:.12g}: relative error ours **{errors[0]:.1e}**, sqrtm {errors[1]:.1e}.")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all comparisons and print or write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--width", type=int, default=2048, help="feature dimension d")
    parser.add_argument("--rows", type=int, default=12_500, help="rows a side of the full-rank comparisons")
    parser.add_argument("--few-rows", type=int, default=500, help="rows a side of the rank-deficient ones")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the report here instead of printing it")
    options = parser.parse_args(arguments)
    width, rows, few, repeats = options.width, options.rows, options.few_rows, options.repeats
    sections = [
        section(f"{name} features, d = {width}, N = {rows}", compare(mixed(rows, width, rectified), repeats), "By QR")
        for name, rectified in (("Correlated Gaussian", False), ("Rectified", True))
    ]
    few_title = f"Rank-deficient features of known distance, d = {width}, N = {few}"
    sections.append(section(few_title, compare(with_closed_form(few, width), repeats), "Closed form"))
    command = " ".join(["python benchmarks/speed/frechet.py", *(arguments if arguments is not None else sys.argv[1:])])
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads:
        command = f"OMP_NUM_THREADS={threads} {command}"
    head = (
        f"# Frechet distance against scipy.linalg.sqrtm\n\n    {command}\n\n"
        f"{date.today().isoformat()}, {os.cpu_count()}-core {platform.machine()} CPU, Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}. Both ran in turn in one "
        f"process, {repeats} repeats, {CLIPS} clips a side.\n"
    )
    report = "\n".join([head, *sections])
    if options.out:
        options.out.write_text(report, encoding="utf-8")
    else:
        print(report)


if __name__ == "__main__":
    main()
