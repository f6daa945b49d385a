"""The table says what the rows say: means and distances of what was scored, and why a cell is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval.interfaces import Influence
from lt_eval.measure import MetricPlan, plan_metric
from lt_eval.records import GROUND_TRUTH, Cell, Column, Failure, Features, MethodInfo, Row, Sample, Summary
from lt_eval.spec import MetricSpec
from lt_eval.summarise import summarise

HERE = "tests.test_summarise"
SAMPLES = tuple("abcdef")


@dataclass(frozen=True)
class Score:
    """A clip metric."""

    columns = {"score": Column("higher", unit="1")}

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Not called: rows are given."""
        raise AssertionError


@dataclass(frozen=True)
class Gap:
    """Distance of means, with its exact derivative or without."""

    columns = {"gap": Column("lower", fixed_by_reference=True)}

    def features(self, clip: object) -> Features:
        """Not called: features are given."""
        raise AssertionError

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        """Return the difference of the means of all rows."""
        return {"gap": float(np.concatenate(list(generated)).mean() - np.concatenate(list(reference)).mean())}


@dataclass(frozen=True)
class GapWithInfluence(Gap):
    """Clips of one size each, so the derivative is each clip's deviation."""

    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        """Return the deviations."""
        ours, theirs = (np.array([clip.mean() for clip in side], float) for side in (generated, reference))
        return {"gap": Influence(ours - ours.mean(), -(theirs - theirs.mean()))}


def plan(name: str) -> MetricPlan:
    return plan_metric(MetricSpec(f"{HERE}:{name}"), {})


def score_rows(method: str, values: Mapping[str, float | None]) -> list[Row]:
    rows = []
    for sample, value in values.items():
        row: dict[str, Any] = (
            {"values": {"score": value}} if value is not None else {"failure": Failure("no_face", "none")}
        )
        rows.append(Row("set", method, sample, 0, f"{HERE}:Score", f"{method}{sample}", **row))
    return rows


def feature_rows(folder: Path, metric: str, method: str, values: Mapping[str, float]) -> list[Row]:
    rows = []
    for sample, value in values.items():
        key = f"{method}{sample}"
        np.save(folder / f"{key}.npy", np.full((3, 1), value, np.float32))
        rows.append(Row("set", method, sample, 0, f"{HERE}:{metric}", key, features=key))
    return rows


def table(rows: Sequence[Row], *plans: str, methods: Sequence[str], folder: Path = Path(), **more: Any) -> Summary:
    infos = [MethodInfo(name) for name in methods]
    found = [plan(name) for name in plans]
    return summarise("set", infos, SAMPLES, found, rows, lambda key: folder / f"{key}.npy", **more)


def cell(summary: Summary, method: str, column: str) -> Cell:
    (found,) = (c for c in summary.cells if (c.method, c.column) == (method, column))
    return found


def test_a_clip_metric_is_the_mean_with_an_interval_and_its_count() -> None:
    values = dict(zip(SAMPLES, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], strict=True))
    got = cell(table(score_rows("ours", values), "Score", methods=["ours"]), "ours", "score")
    assert (got.value, got.n, got.total, got.unit, got.better) == (3.5, 6, 6, "1", "higher")
    assert got.low is not None and got.high is not None and got.low < 3.5 < got.high


@dataclass(frozen=True)
class Share(Score):
    """A share of clips."""

    columns = {"score": Column("higher", unit="share")}


@dataclass(frozen=True)
class Rating(Score):
    """A mean between bounds."""

    columns = {"score": Column("higher", minimum=1.0, maximum=5.0)}


def test_the_interval_of_a_share_stays_within_0_and_1_and_has_a_width() -> None:
    rows = score_rows("base", dict.fromkeys(SAMPLES, 1.0)) + score_rows("ours", dict.fromkeys(SAMPLES, 0.0))
    rows = [replace(row, metric=f"{HERE}:Share") for row in rows]
    summary = table(rows, "Share", methods=["base", "ours"])
    base, ours = cell(summary, "base", "score"), cell(summary, "ours", "score")
    assert (base.value, base.high, ours.value, ours.low) == (1.0, 1.0, 0.0, 0.0)
    assert base.low is not None and base.low < 0.7 and ours.high is not None and ours.high > 0.3
    (difference,) = summary.differences
    assert difference.low == -1.0 == difference.value and difference.high < 0


def test_shares_of_each_clip_are_averaged_like_other_values() -> None:
    rows = score_rows("base", dict.fromkeys(SAMPLES, 0.25)) + score_rows("ours", dict.fromkeys(SAMPLES, 1.0))
    summary = table([replace(row, metric=f"{HERE}:Share") for row in rows], "Share", methods=["base", "ours"])
    assert cell(summary, "base", "score").value == 0.25
    (difference,) = summary.differences
    assert difference.value == 0.75


def test_an_interval_ends_where_the_columns_values_do() -> None:
    rows = score_rows("ours", dict(zip(SAMPLES, [5.0, 5.0, 5.0, 1.0, 5.0, 5.0], strict=True)))
    got = cell(table([replace(r, metric=f"{HERE}:Rating") for r in rows], "Rating", methods=["ours"]), "ours", "score")
    assert got.high == 5.0 and got.low is not None and 1.0 <= got.low < 5.0


def test_failures_are_counted_by_reason_and_never_enter_the_mean() -> None:
    values = dict.fromkeys(SAMPLES, 2.0) | {"a": None, "b": None}
    got = cell(table(score_rows("ours", values), "Score", methods=["ours"]), "ours", "score")
    assert (got.value, got.n, got.total, got.note) == (2.0, 4, 6, "no_face: 2 clips")


def test_a_method_without_a_single_value_has_an_empty_cell_that_says_why() -> None:
    got = cell(table(score_rows("ours", dict.fromkeys(SAMPLES, None)), "Score", methods=["ours"]), "ours", "score")
    assert (got.value, got.low, got.n, got.note) == (None, None, 0, "no_face: 6 clips")


def test_a_difference_is_taken_on_the_clips_both_have() -> None:
    base = dict(zip(SAMPLES, [1.0, 5.0, 2.0, 8.0, 3.0, 9.0], strict=True))
    ours: dict[str, float | None] = {sample: value + 1 for sample, value in base.items()}
    ours["f"] = None
    rows = score_rows("base", base) + score_rows("ours", ours)
    (difference,) = table(rows, "Score", methods=["base", "ours"]).differences
    assert (difference.method, difference.baseline, difference.n) == ("ours", "base", 5)
    assert difference.value == difference.low == difference.high == 1.0


def test_the_baseline_can_be_chosen() -> None:
    rows = [row for name in "xyz" for row in score_rows(name, dict.fromkeys(SAMPLES, 1.0))]
    differences = table(rows, "Score", methods=list("xyz"), baseline="y").differences
    assert {(d.method, d.baseline) for d in differences} == {("x", "y"), ("z", "y")}


@pytest.mark.parametrize("metric", ["Gap", "GapWithInfluence"])
def test_a_set_metric_is_compared_with_ground_truth_which_has_no_value(tmp_path: Path, metric: str) -> None:
    truth = dict(zip(SAMPLES, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], strict=True))
    ours = {sample: 2 * value for sample, value in truth.items()}
    rows = feature_rows(tmp_path, metric, GROUND_TRUTH, truth) + feature_rows(tmp_path, metric, "ours", ours)
    summary = table(rows, metric, methods=[GROUND_TRUTH, "ours"], folder=tmp_path)
    assert cell(summary, GROUND_TRUTH, "gap").value is None
    got = cell(summary, "ours", "gap")
    assert got.value == pytest.approx(2.5) and got.low is not None and got.high is not None
    # pairs (v, 2v) differ by v: the interval is Student's of the mean of 0..5
    half = 2.570582 * np.std(np.arange(6), ddof=1) / np.sqrt(6)
    assert (got.low, got.high) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-5)
    pulls = summary.contributions["ours"]["gap"]
    assert sum(pulls.values()) == pytest.approx(0, abs=1e-12) and pulls["f"] > pulls["a"]


def test_a_set_difference_uses_the_references_of_the_common_clips(tmp_path: Path) -> None:
    """A method that lacks the hard clips is not compared with one that has them."""
    truth = dict.fromkeys(SAMPLES, 0.0)
    base = dict(zip(SAMPLES, [1.0, 1.0, 1.0, 1.0, 1.0, 100.0], strict=True))
    ours = {sample: 2.0 for sample in SAMPLES if sample != "f"}
    rows = [
        row
        for name, values in ((GROUND_TRUTH, truth), ("base", base), ("ours", ours))
        for row in feature_rows(tmp_path, "Gap", name, values)
    ]
    summary = table(rows, "Gap", methods=[GROUND_TRUTH, "base", "ours"], folder=tmp_path)
    (difference,) = summary.differences
    assert difference.value == pytest.approx(1.0) and difference.n == 5
    assert cell(summary, "ours", "gap").n == 5


def test_references_that_failed_are_stated(tmp_path: Path) -> None:
    truth = {sample: 1.0 for sample in SAMPLES if sample != "a"}
    rows = feature_rows(tmp_path, "Gap", GROUND_TRUTH, truth)
    rows.append(Row("set", GROUND_TRUTH, "a", 0, f"{HERE}:Gap", "x", failure=Failure("damaged", "cut")))
    rows += feature_rows(tmp_path, "Gap", "ours", dict.fromkeys(SAMPLES, 1.0))
    summary = table(rows, "Gap", methods=[GROUND_TRUTH, "ours"], folder=tmp_path)
    assert cell(summary, "ours", "gap").n == 5
    assert any("5 of 6 references" in note and "damaged: 1 clip" in note for note in summary.footnotes)


def test_a_clip_without_its_reference_does_not_count(tmp_path: Path) -> None:
    """One reference that cannot be read must not look like a difference in quality."""
    truth = dict(zip(SAMPLES, [0.0, 0.0, 0.0, 0.0, 0.0, 90.0], strict=True))
    rows = feature_rows(tmp_path, "Gap", "ours", truth)
    rows += feature_rows(tmp_path, "Gap", GROUND_TRUTH, {k: v for k, v in truth.items() if k != "f"})
    got = cell(table(rows, "Gap", methods=[GROUND_TRUTH, "ours"], folder=tmp_path), "ours", "gap")
    assert (got.value, got.n, got.total) == (0.0, 5, 6)


def test_a_method_that_was_not_timed_has_no_count_of_failures() -> None:
    rows = [Row("set", "ours", s, 0, "render", s, values={"Throughput": 25.0, "Latency": 0.3}) for s in SAMPLES]
    got = cell(table(rows, methods=["ours", "theirs"]), "theirs", "Throughput")
    assert (got.value, got.n, got.total) == (None, 0, 0)


def test_measured_times_are_columns_before_the_metrics() -> None:
    rows = [
        Row("set", "ours", sample, 0, "render", sample, values={"Throughput": 25.0, "Latency": 0.3})
        for sample in SAMPLES
    ]
    summary = table(rows + score_rows("ours", dict.fromkeys(SAMPLES, 1.0)), "Score", methods=["ours"])
    assert list(summary.columns) == ["Throughput", "Latency", "score"]
    assert cell(summary, "ours", "Latency").value == pytest.approx(0.3)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        row
        for name in (GROUND_TRUTH, "ours", "theirs")
        for row in feature_rows(tmp_path, "Gap", name, dict(zip(SAMPLES, rng.normal(size=6), strict=True)))
    ]
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    methods = [GROUND_TRUTH, "ours", "theirs"]
    assert table(rows, "Gap", methods=methods, folder=tmp_path) == table(
        shuffled, "Gap", methods=methods, folder=tmp_path
    )
