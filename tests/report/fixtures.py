"""Two data sets as plain records: official and builtin columns, a failure, n < N, names that need escaping."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from lt_eval.records import GROUND_TRUTH, Cell, Column, Difference, Failure, MethodInfo, Row, Summary

NASTY = r"a&b_c%d#e|<i>$x^~{1}\z"
CLIPS = [f"clip_{i:02d}" for i in range(8)]

COLUMNS = {
    "FID": Column("lower", fixed_by_reference=True),
    "FID (builtin)": Column("lower", fixed_by_reference=True),
    "Sync-C": Column("higher"),
    "blinks": Column("neither", unit="1/min", digits=1),
    "Latency": Column("lower", unit="s"),
    "Throughput": Column("higher", unit="FPS"),
}

VALUES: dict[str, dict[str, float | None]] = {
    GROUND_TRUTH: {"FID": None, "FID (builtin)": None, "Sync-C": 8.0, "blinks": 14.0},
    "ours": {"FID": 13.684, "FID (builtin)": 0.5, "Sync-C": 4.5, "blinks": 12.0, "Latency": 0.33, "Throughput": 24.8},
    NASTY: {"FID": 10.85, "FID (builtin)": 0.25, "Sync-C": 4.5, "blinks": 9.0, "Latency": 83.4, "Throughput": 0.97},
    "worst": {"FID": 99.0, "FID (builtin)": 9.0, "Sync-C": None, "blinks": 1.0, "Latency": 400.0, "Throughput": 0.2},
}


def summary(dataset: str = "HDTF") -> Summary:
    """Return a summary with everything a table must cope with."""
    cells = tuple(
        _cell(dataset, method, name, values.get(name), column)
        for method, values in VALUES.items()
        for name, column in COLUMNS.items()
    )
    contributions = {
        method: {
            name: {clip: value + 0.1 * i for i, clip in enumerate(CLIPS)}
            for name, value in values.items()
            if value is not None
        }
        for method, values in VALUES.items()
    }
    differences = (
        Difference(dataset, NASTY, "ours", "FID", -2.83, -4.0, -1.5, 8),
        Difference(dataset, NASTY, "ours", "Sync-C", 0.0, -0.2, 0.2, 8),
        Difference(dataset, "worst", "ours", "FID", 85.3, 70.0, 99.0, 8),
        Difference(dataset, "worst", "ours", "blinks", -11.0, -12.0, -10.0, 8),
    )
    return Summary(
        dataset,
        (MethodInfo("ours", "1.3B"), MethodInfo(GROUND_TRUTH), MethodInfo(NASTY, "14B"), MethodInfo("worst")),
        COLUMNS,
        cells,
        differences,
        {"FID": 3.21},
        contributions,
        ("FID: pytorch-fid preprocessing, N = 8 clips.",),
    )


def builtin_only(dataset: str = "demo") -> Summary:
    """Return a summary whose only quality column is a builtin one."""
    column = {"FID (builtin)": COLUMNS["FID (builtin)"]}
    cells = tuple(_cell(dataset, m, "FID (builtin)", v, column["FID (builtin)"]) for m, v in [("a", 2.0), ("b", 1.0)])
    return Summary(dataset, (MethodInfo("a"), MethodInfo("b")), column, cells)


def _cell(dataset: str, method: str, name: str, value: float | None, column: Column) -> Cell:
    timed = name in ("Latency", "Throughput")
    total = 0 if timed else len(CLIPS)
    if value is None:
        note = "no clip has a face" if method == "worst" else "a distance to itself"
        return Cell(dataset, method, name, None, n=0, total=total, unit=column.unit, better=column.better, note=note)
    n = 7 if (method, name) == ("worst", "FID") else total
    low, high = (None, None) if timed else (value * 0.9, value * 1.1)
    return Cell(dataset, method, name, value, low, high, n, total, column.unit, column.better)


def write_run(folder: Path, dataset: str = "HDTF") -> Path:
    """Write a run folder beside its clips: files of a few bytes, one gone, one sample with a path in its name."""
    media = folder.parent / f"{folder.name}-media"
    rows = [row for method in VALUES for row in _rows(media, dataset, method)]
    shown = replace(summary(dataset), keys=tuple(row.key for row in rows))
    folder.mkdir()
    manifest = {
        "spec": {"seed": 7, "weights": "builtin", "media": {"fps": 25.0, "size": 256, "fit": "crop"}},
        "dataset": {"name": dataset, "version": "v1", "samples": CLIPS},
        "sessions": [{"created": "2026-01-01", "versions": {"lt-eval": "0.1"}, "hardware": {"cpu": "a <fast> one"}}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(shown.to_json()), encoding="utf-8")
    old = Failure("no_face", "of an earlier setting")
    stale = Row(dataset, "a method of an earlier setting", CLIPS[0], 0, "sync", "old", failure=old)
    lines = [json.dumps(row.to_json()) + "\n" for row in [stale, *rows]]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def _rows(media: Path, dataset: str, method: str) -> list[Row]:
    rows = []
    for i, clip in enumerate(CLIPS):
        path = media / f"method{list(VALUES).index(method)}" / f"{clip}.mp4"
        if (method, i) != ("worst", 0):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{method} {clip}".encode())
        shared = {"reference": str(media / "method0" / f"{clip}.mp4")}
        key = f"{method}-{clip}"
        if method == "worst":
            failure = Failure("no_face", f"{clip}: no face in <75> frames & no hope")
            rows.append(Row(dataset, method, clip, 0, "sync", key, failure=failure, clip=str(path), details=shared))
        else:
            values = {"Sync-C": 4.0 + i}
            rows.append(Row(dataset, method, clip, 0, "sync", key, values, clip=str(path), details=shared))
        rows.append(Row(dataset, method, clip, 0, "fid", key + "f", features="f", clip=str(path), details=shared))
    return rows
