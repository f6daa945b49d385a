"""How often a 95 % interval holds what it claims to hold, by simulation; and how near the floors come to the truth.

    python benchmarks/coverage.py --out benchmarks/coverage.md       # the published table, about ten minutes on two
    cores python benchmarks/coverage.py --quick                            # a tenth of the draws, to standard output

Each set metric is simulated on clips of eight frames. A frame is a rectified linear mix of d sources whose variances
fall off as 1/k; 70 % of a source's variance is the clip's own (the person), 30 % the frame's. The target of every
interval is the mean of the statistic over all draws at that number of clips, not its value at infinitely many.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from lt_eval.interfaces import Influence
from lt_eval.metrics.frechet import (
    frechet_distance,
    frechet_floor,
    frechet_infinity,
    frechet_infinity_influence,
    frechet_influence,
)
from lt_eval.metrics.kid import kernel_distance, kernel_floor, kernel_influence
from lt_eval.records import Features
from lt_eval.stats import Interval, influence_difference, influence_interval, mean_interval, paired_difference

FRAMES = 8
PERSON = 0.7
CLIPS = (8, 20, 50, 100)
WIDTHS = (16, 64, 256)

Distance = Callable[[Sequence[Features], Sequence[Features]], float]
Pulls = Callable[[Sequence[Features], Sequence[Features]], Influence]
STATISTICS: dict[str, tuple[Distance, Pulls]] = {
    "Frechet": (frechet_distance, frechet_influence),
    "Frechet, N to infinity": (frechet_infinity, frechet_infinity_influence),
    "KID": (kernel_distance, kernel_influence),
}


@dataclass
class Tally:
    """Intervals of one statistic at one setting."""

    values: list[float] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)

    def add(self, interval: Interval) -> None:
        """Take in one draw."""
        assert interval.low is not None
        assert interval.high is not None
        self.values.append(interval.value)
        self.lows.append(interval.low)
        self.highs.append(interval.high)

    def row(self, *labels: object, target: float | None = None) -> str:
        """Return a line of the table: labels, mean, scatter, coverage, misses on either side, relative width."""
        truth = float(np.mean(self.values)) if target is None else target
        spread = float(np.std(self.values))
        above, below = np.mean(np.array(self.lows) > truth), np.mean(np.array(self.highs) < truth)
        width = np.median(np.array(self.highs) - np.array(self.lows)) / (2 * 1.96 * spread)
        cells = [*labels, f"{truth:.3g}", f"{spread:.2g}", f"**{100 * (1 - above - below):.1f}**"]
        return _line(*cells, f"{100 * above:.1f}", f"{100 * below:.1f}", f"{width:.2f}")


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _header(*cells: str) -> Iterator[str]:
    yield _line(*cells)
    yield _line(*("---" for _ in cells))


SHAPE = ("mean", "sd", "covered %", "too high %", "too low %", "width / ideal")


def means(draws: int) -> Iterator[str]:
    """Yield the table of clip metrics: one value a clip, or turns of dialogues, or differences of two methods."""
    yield from _header("values", "clips", *SHAPE)
    rng = np.random.default_rng(1)
    kinds: dict[str, tuple[Callable[[int], NDArray[np.floating[Any]]], float]] = {
        "normal": (rng.standard_normal, 0.0),
        "uniform": (rng.random, 0.5),
        "skewed (log-normal, 0.7)": (lambda n: rng.lognormal(0.0, 0.7, n), float(np.exp(0.245))),
        "ratings 1..5": (lambda n: 1.0 + rng.choice(5, n, p=[0.02, 0.05, 0.13, 0.5, 0.3]), 4.01),
        "5 % failures far off": (lambda n: np.where(rng.random(n) < 0.05, 8.0, rng.standard_normal(n)), 0.4),
    }
    for name, (draw, truth) in kinds.items():
        for clips in CLIPS:
            tally = Tally()
            for seed in range(draws):
                tally.add(mean_interval(draw(clips).tolist(), seed=seed, draws=1000))
            yield tally.row(name, clips, target=truth)
    for dialogues in CLIPS:
        turns, difference = Tally(), Tally()
        for seed in range(draws):
            own = np.random.default_rng(seed)
            ids = np.repeat(np.arange(dialogues), own.integers(1, 5, dialogues))
            values = own.standard_normal(dialogues)[ids] + own.standard_normal(len(ids))
            turns.add(mean_interval(values.tolist(), clusters=ids.tolist(), seed=seed, draws=1000))
            speech = own.lognormal(0.0, 0.7, dialogues)
            a, b = (speech + own.standard_normal(dialogues) for _ in range(2))
            difference.add(paired_difference(_by_id(a), _by_id(b), seed=seed, draws=1000))
        yield turns.row("1 to 4 turns of each dialogue", dialogues, target=0.0)
        yield difference.row("paired difference", dialogues, target=0.0)


def _by_id(values: NDArray[np.float64]) -> dict[str, float]:
    return {str(index): float(value) for index, value in enumerate(values)}


def features(
    people: NDArray[np.float64], rng: np.random.Generator, scale: float = 1.0, shift: float = 0.0
) -> list[Features]:
    """Return FRAMES rows for each person [clips, 1, d]: rectified, clustered by clip."""
    clips, _, d = people.shape
    sources = np.sqrt(PERSON) * people + np.sqrt(1 - PERSON) * rng.standard_normal((clips, FRAMES, d))
    mix = np.random.default_rng(d).standard_normal((d, d)) / np.sqrt(np.arange(1, d + 1))[:, None]
    mix *= 0.7 / np.sqrt(
        (mix**2).sum(axis=0)
    )  # the size of Inception's features, which the cubic kernel is not free of
    return list(np.maximum(scale * (sources @ mix) + shift, 0.0).astype(np.float32))


def distances(draws: int) -> Iterator[str]:
    """Yield the table of set metrics: the same people redrawn, strangers, and the difference of two methods."""
    yield from _header("statistic", "generated clips", "d", "clips", *SHAPE)
    for d in WIDTHS:
        for clips in CLIPS:
            tallies: dict[tuple[str, str], Tally] = {}
            for seed in range(draws if clips * d < 100 * 256 else draws // 2):
                for label, interval in _one_draw(d, clips, seed):
                    tallies.setdefault(label, Tally()).add(interval)
            for (statistic, kind), tally in tallies.items():
                yield tally.row(statistic, kind, d, clips)


def _one_draw(d: int, clips: int, seed: int) -> Iterator[tuple[tuple[str, str], Interval]]:
    rng = np.random.default_rng((seed, d, clips))
    people = rng.standard_normal((clips, 1, d))
    reference = features(people, rng)
    ours, theirs = features(people, rng, 0.9), features(people, rng, 0.8, 0.05)
    strangers = features(rng.standard_normal((clips, 1, d)), rng)
    ids = range(clips)
    for name, (distance, pulls) in STATISTICS.items():
        values = [distance(each, reference) for each in (ours, theirs, strangers)]
        pulled = [pulls(each, reference) for each in (ours, theirs, strangers)]
        same = influence_interval(values[1], pulled[1], generated_ids=ids, reference_ids=ids)
        yield (name, "same people, degraded"), same
        yield (name, "strangers, same distribution"), influence_interval(values[2], pulled[2])
        yield (
            (name, "difference of two methods"),
            influence_difference(
                values[1], pulled[1], values[0], pulled[0], generated_ids_a=ids, generated_ids_b=ids, reference_ids=ids
            ),
        )


def floors(draws: int) -> Iterator[str]:
    """Yield the table of floors: the estimate from one reference against the mean of fresh pairs."""
    yield from _header(
        "statistic", "d", "reference clips", "generated clips", "truth", "mean estimate / truth", "sd / truth"
    )
    for d in WIDTHS:
        for clips, generated in ((8, 8), (20, 20), (50, 50), (100, 100), (100, 60), (50, 100)):
            truths: dict[str, list[float]] = {"Frechet": [], "KID": []}
            guesses: dict[str, list[float]] = {"Frechet": [], "KID": []}
            for seed in range(draws):
                rng = np.random.default_rng((seed, d, clips, generated))
                reference, fresh = (features(rng.standard_normal((n, 1, d)), rng) for n in (clips, generated))
                truths["Frechet"].append(frechet_distance(fresh, reference))
                guesses["Frechet"].append(frechet_floor(reference, generated))
                truths["KID"].append(kernel_distance(fresh, reference))
                guesses["KID"].append(kernel_floor(reference, generated))
            for name, truth in truths.items():
                mean, guess = np.mean(truth), np.array(guesses[name])
                ratio, scatter = guess.mean() / mean, guess.std() / mean
                yield _line(name, d, clips, generated, f"{mean:.3g}", f"{ratio:.2f}", f"{scatter:.2f}")


REPORT = """# Coverage of the intervals

    python benchmarks/coverage.py --out benchmarks/coverage.md

{date}, {machine}, Python {python}, numpy {numpy}, scipy {scipy}; {seconds:.0f} s. {draws} draws a line for means,
{set_draws} for set metrics (half at d = 256, 100 clips), {floor_draws} for floors. {error}

Nominal coverage is 95 %. The target is the expected value of the statistic at that number of clips. "Too high" counts
intervals that lie wholly above it, "too low" wholly below. The last column is the median width over that of an interval
that knew the true scatter (2 x 1.96 sd). Frames a clip: {frames}. At d = 256 sets of 8 and 20 clips have fewer
frames than dimensions. How the clips are drawn stands in `benchmarks/coverage.py`.

## Clip metrics: `mean_interval`, `paired_difference` (studentised bootstrap; Student below 8 clips)

{means}

## Set metrics: `influence_interval`, `influence_difference` (infinitesimal jackknife, Student's quantile)

{distances}

## Floors: `frechet_floor`, `kernel_floor`

Truth is the mean distance between independent sets of one distribution. The estimate sees one reference only; "sd"
is its scatter from reference to reference.

{floors}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the simulations and print or write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    parser.add_argument("--out", type=Path, help="write the report here instead of printing it")
    options = parser.parse_args(arguments)
    draws, set_draws, floor_draws = (100, 30, 10) if options.quick else (1000, 300, 100)
    started = time.perf_counter()
    tables = {}
    for name, table in (("means", means(draws)), ("distances", distances(set_draws)), ("floors", floors(floor_draws))):
        lines = []
        for line in table:
            print(line, file=sys.stderr)
            lines.append(line)
        tables[name] = "\n".join(lines)
    errors = [100 * np.sqrt(0.95 * 0.05 / each) for each in (draws, set_draws)]
    report = REPORT.format(
        date=date.today().isoformat(),
        machine=f"{os.cpu_count()}-core {platform.machine()} CPU",
        python=platform.python_version(),
        numpy=np.__version__,
        scipy=scipy.__version__,
        seconds=time.perf_counter() - started,
        draws=draws,
        set_draws=set_draws,
        floor_draws=floor_draws,
        error=f"One binomial standard error is {errors[0]:.1f} points for means, {errors[1]:.1f} for set metrics.",
        frames=FRAMES,
        **tables,
    )
    if options.out:
        options.out.write_text(report, encoding="utf-8")
    else:
        print(report)


if __name__ == "__main__":
    main()
