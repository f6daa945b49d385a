"""Does any video whatever stop a run, or get a score that it cannot have?

    python benchmarks/fuzz.py --count 500 --seed 0 --media ../shared/media --out results/fuzz

Makes `count` small random videos (fuzz_videos.py): drawn talkers, joined shots, noise, flat colours, and with --media
pieces of real clips; codecs, containers, pixel formats, sizes, frame rates and lengths of all kinds; no sound, silence,
noise or speech, one to eight channels at any rate, shorter or longer than the picture, which may start late; face boxes
beside them, true, straying, absent or nonsense; and a quarter with bytes changed, lost or added. They are measured in
runs of the single-round protocol, one a media policy: half of the videos as references, half as a method's clips, by
FID, FVD, Sync in both modes and Q-Align, with builtin or small seeded networks, and with bounds of Sync low enough that
short clips of small faces are scored.

What must hold: every run ends; every clip has a row per metric; a row has finite values or features, or a reason; no
score is exactly 0, none of Q-Align's is outside of 1..5; distances of the sets are finite and above 0; and no reason is
a bug's (`metric_error`, `worker_lost`). Standard output: one JSON line. Exit status 1 where something does not hold;
the videos stay in the folder for looking at.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from fuzz_videos import Recipe, make

from lt_eval.progress import Progress
from lt_eval.protocols import single
from lt_eval.records import GROUND_TRUTH
from lt_eval.spec import build
from lt_eval.store import read_rows

if TYPE_CHECKING:
    from lt_eval.records import Cell, Row

DIRECT, REFERENCE = "sync", "lt_eval.metrics.sync:Sync"
METRICS = ("fid", "fvd", DIRECT, REFERENCE, "qalign")

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "25 fps": {},
    "native": {"fps": "native"},
    "16 fps, 128 px": {"fps": 16, "size": 128, "fit": "letterbox", "skip_first_frame": True},
}

BOUNDS = {"min_track": 10, "min_face_px": 10}

BUGS = ("metric_error", "worker_lost")


def _row_violations(row: Row, features: Path) -> list[str]:
    where = f"{row.method}, {row.sample}, {row.metric}"
    if row.failure is not None:
        if row.failure.reason in BUGS:
            return [f"{where}: {row.failure.message}"]
        return [f"{where}: values and a failure at once"] if row.values else []
    if row.features:
        found = np.load(features / f"{row.features}.npy")
        return [] if len(found) and np.isfinite(found).all() else [f"{where}: features {found.shape} not finite"]
    if not row.values:
        return [f"{where}: neither a value nor a reason"]
    wrong = []
    for name, value in row.values.items():
        may_be_0 = name.startswith(("Sync offset", "Sync in time"))
        rated = name.startswith(("IQA", "ASE"))
        if not math.isfinite(value) or (value == 0 and not may_be_0) or (rated and not 1 <= value <= 5):
            wrong.append(f"{where}: {name} = {value}")
    return wrong


def violations(rows: Iterable[Row], cells: Iterable[Cell], names: set[tuple[str, str]], features: Path) -> list[str]:
    """Return what does not hold, one sentence each.

    Args:
        rows: of a run.
        cells: of its table.
        names: method and id of every clip.
        features: folder of the run's features.
    """
    rows = list(rows)
    found = []
    for metric in METRICS:
        absent = names - {(row.method, row.sample) for row in rows if row.metric == metric}
        found += [f"{method}, {name}: no row of {metric}" for method, name in sorted(absent)]
    for row in rows:
        found += _row_violations(row, features)
    for cell in cells:
        if cell.value is None and not cell.note:
            found.append(f"table, {cell.method}: {cell.column} has neither a value nor a note")
        elif cell.value is not None and (
            not math.isfinite(cell.value)
            or (cell.value == 0 and not cell.column.startswith(("Sync offset", "Sync in")))
        ):
            found.append(f"table, {cell.method}: {cell.column} = {cell.value}")
    return found


def _small_one_align(folder: Path) -> Path:
    """Write a checkpoint of Q-Align's layout, seeded and small."""
    script = Path(__file__).parent / "parity" / "one_align.py"
    spec = importlib.util.spec_from_file_location("fuzz_one_align", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Path(module.write_checkpoint(folder, image_size=56))


def _make_pairs(folder: Path, count: int, seed: Sequence[int], media: Path | None) -> tuple[list[Recipe], int]:
    """Make references and clips of the same names; return what was made, and how often an encoder refused."""
    made, refused = [], 0
    for half in ("reference", "clips"):
        (folder / half).mkdir(parents=True)
        for number in range(count // 2):
            for attempt in range(100):
                recipe = make(folder / half, f"v{number:04d}", (*seed, half == "clips", number, attempt), media)
                if recipe is not None:
                    break
                refused += 1
            else:
                raise RuntimeError(f"no encoder accepts anything of seed {seed}")
            made.append(dataclasses.replace(recipe, name=f"{half}/{recipe.name}"))
    return made, refused


def run_policy(folder: Path, policy: Mapping[str, Any], weights: Path, workers: int, progress: Progress) -> list[str]:
    """Measure the videos of a folder under a media policy; return what does not hold."""
    spec = build(
        {
            "dataset": {"name": "folder", "root": str(folder / "reference")},
            "method": {"fuzzed": {"clips": str(folder / "clips")}},
            "metrics": list(METRICS),
            "metric": {
                DIRECT: {**BOUNDS, "masked": True},
                REFERENCE: {**BOUNDS, "mode": "reference"},
                "qalign": {"weights": "official", "weights_file": str(weights), "frames": 3, "dtype": "float32"},
            },
            "media": dict(policy),
            "weights": "builtin",
            "device": "cpu",
            "execution": {"workers": workers},
        }
    )
    out = folder / "run"
    outcome = single.run(spec, out, progress=progress, say=progress.say)
    names = {
        (method, path.stem)
        for method, half in ((GROUND_TRUTH, "reference"), ("fuzzed", "clips"))
        for path in (folder / half).iterdir()
        if path.suffix != ".json"
    }
    return violations(read_rows(out), outcome.summary.cells, names, out / "features")


def counts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Return how often each metric gave a value, and how often each reason, the commonest first."""
    found: dict[str, Counter[str]] = {metric: Counter() for metric in METRICS}
    for row in rows:
        found[row.metric][row.failure.reason if row.failure else "scored"] += 1
    return {metric: dict(counter.most_common()) for metric, counter in found.items()}


def run(out: Path, count: int, seed: int, workers: int = 1, media: Path | None = None) -> dict[str, Any]:
    """Make the videos, measure them under each policy, and return the report."""
    shutil.rmtree(out, ignore_errors=True)
    weights = _small_one_align(out / "one-align")
    recipes: dict[str, list[Recipe]] = {}
    wrong: list[str] = []
    rows: list[Row] = []
    refused, begun = 0, time.perf_counter()
    for number, (name, policy) in enumerate(POLICIES.items()):
        share = (count // 2 + number) // len(POLICIES) * 2
        folder = out / f"policy{number}"
        recipes[name], again = _make_pairs(folder, share, (seed, number), media)
        refused += again
        with Progress() as progress:
            wrong += [f"{name}: {what}" for what in run_policy(folder, policy, weights, workers, progress)]
        rows += read_rows(folder / "run")
    listed = {name: list(map(dataclasses.asdict, made)) for name, made in recipes.items()}
    (out / "recipes.json").write_text(json.dumps(listed, indent=1))
    return {
        "videos": sum(map(len, recipes.values())),
        "seed": seed,
        "refused_by_encoders": refused,
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "rows": counts(rows),
        "wrong": wrong,
    }


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--media", type=Path, help="folder of real clips; pieces of them are among the videos")
    parser.add_argument("--out", type=Path, default=Path("results/fuzz"))
    options = parser.parse_args()
    av.logging.set_level(None)
    with contextlib.suppress(KeyboardInterrupt):
        report = run(options.out, options.count, options.seed, options.workers, options.media)
        print(json.dumps(report))
        return 1 if report["wrong"] else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
