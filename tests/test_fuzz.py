"""A small share of benchmarks/fuzz.py, and that it notices what must not be."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lt_eval.records import Cell, Failure, Row

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module("fuzz")
    for name in ("fuzz", "fuzz_videos"):
        sys.modules.pop(name, None)


def test_no_video_stops_a_run_or_gets_a_score_that_it_cannot_have(fuzz: ModuleType, tmp_path: Path) -> None:
    found = fuzz.run(tmp_path / "fuzz", 12, 4)
    assert found["wrong"] == []
    assert found["videos"] == 12
    assert all(sum(counts.values()) == 12 for counts in found["rows"].values())
    for metric, least in (("fid", 8), ("fvd", 6), (fuzz.DIRECT, 2), (fuzz.REFERENCE, 2), ("qalign", 8)):
        assert found["rows"][metric]["scored"] >= least, metric


def test_the_same_seed_makes_the_same_videos(fuzz: ModuleType, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    recipes = [fuzz.make(tmp_path / folder, "v", (0, 0, 0, 5, 0)) for folder in ("one", "two")]
    assert recipes[0] == recipes[1] is not None
    assert fuzz.make(tmp_path / "two", "w", (0, 0, 0, 6, 0)) != recipes[0]


ROW = Row("folder", "fuzzed", "v0000", 0, "sync", "key", values={"Sync-C": 1.0, "Sync offset": 0.0})
CELL = Cell("folder", "fuzzed", "FID", 3.0)


def wrong(fuzz: Any, tmp_path: Path, row: Row = ROW, cell: Cell = CELL) -> list[str]:
    others = [replace(ROW, metric=metric) for metric in fuzz.METRICS if metric != row.metric]
    found: list[str] = fuzz.violations([row, *others], [cell], {("fuzzed", "v0000")}, tmp_path)
    return found


def test_what_may_be_is_no_violation(fuzz: ModuleType, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.ones((2, 3), np.float32))
    assert wrong(fuzz, tmp_path) == []
    assert wrong(fuzz, tmp_path, replace(ROW, values={}, failure=Failure("no_face", "x"))) == []
    assert wrong(fuzz, tmp_path, replace(ROW, values={}, features="good")) == []
    assert wrong(fuzz, tmp_path, cell=replace(CELL, value=None, note="no clip")) == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (replace(ROW, values={"Sync-C": 0.0}), "Sync-C = 0.0"),
        (replace(ROW, values={"Sync-D": math.nan}), "Sync-D = nan"),
        (replace(ROW, values={"IQA": 5.5}), "IQA = 5.5"),
        (replace(ROW, values={}), "neither a value nor a reason"),
        (replace(ROW, failure=Failure("no_face", "x")), "values and a failure"),
        (replace(ROW, values={}, failure=Failure("metric_error", "a bug")), "a bug"),
        (replace(ROW, values={}, features="bad"), "not finite"),
        (replace(ROW, sample="v0001"), "no row of sync"),
    ],
)
def test_what_must_not_be_is_named(fuzz: ModuleType, tmp_path: Path, row: Row, says: str) -> None:
    np.save(tmp_path / "bad.npy", np.full((2, 3), np.nan, np.float32))
    (found,) = wrong(fuzz, tmp_path, row)
    assert says in found


@pytest.mark.parametrize("cell", [replace(CELL, value=0.0), replace(CELL, value=math.inf), replace(CELL, value=None)])
def test_a_table_that_must_not_be_is_named(fuzz: ModuleType, tmp_path: Path, cell: Cell) -> None:
    (found,) = wrong(fuzz, tmp_path, cell=cell)
    assert found.startswith("table, fuzzed: FID")
