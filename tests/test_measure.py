"""A clip becomes one row a metric, on one decode; what is wrong with a clip stays with that clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval.errors import SpecError, UnscorableError, UsageError, WeightsError
from lt_eval.interfaces import Clip
from lt_eval.measure import (
    ClipTask,
    MetricPlan,
    load_metric,
    measure,
    measure_clip,
    plan_clip,
    plan_metric,
    remaining,
    unavailable,
)
from lt_eval.media import clip as clip_module
from lt_eval.records import Column, Dialogue, Features, Frames, MediaPolicy, Row, Sample, Score, Turn
from lt_eval.spec import ExecutionPolicy, MetricSpec
from tests.clips import write_clips

HERE = "tests.test_measure"


@dataclass(frozen=True)
class Brightness:
    """Mean of all pixels; raises as told."""

    fails: str = ""

    columns = {"brightness": Column("neither")}

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Return the mean."""
        if self.fails == "sample":
            raise UnscorableError("too_dark", "nothing to see")
        if self.fails == "bug":
            raise ZeroDivisionError("a bug")
        if self.fails == "usage":
            raise WeightsError("no weights")
        if self.fails == "nan":
            return {"brightness": float("nan")}
        return {"brightness": float(sample.clip.frames.mean())}


@dataclass(frozen=True)
class Means:
    """Frame means as features."""

    empty: bool = False

    columns = {"means": Column("lower", fixed_by_reference=True)}

    def features(self, clip: Clip) -> Features:
        """Return float32 [T, 3]."""
        frames = clip.frames[:0] if self.empty else clip.frames
        means: Features = frames.mean(axis=(1, 2)).astype(np.float32)
        return means

    def distance(self, generated: list[Features], reference: list[Features]) -> Mapping[str, float]:
        """Return the distance of the overall means."""
        return {"means": float(np.abs(np.concatenate(generated).mean(0) - np.concatenate(reference).mean(0)).sum())}


class Nothing:
    """No metric at all."""


def plans(*names: str) -> tuple[MetricPlan, ...]:
    found = []
    for name in names:
        name, _, fails = name.partition("/")
        found.append(plan_metric(MetricSpec(f"{HERE}:{name}", {"fails": fails} if fails else {}), {"device": "cpu"}))
    return tuple(found)


def task(tmp_path: Path, *names: str, **more: str) -> ClipTask:
    folder = write_clips(tmp_path, ["a"])
    dialogue = Dialogue("a", (Turn(reference=folder / "a.mp4"),))
    return plan_clip("set", "ours", dialogue, folder / "a.mp4", MediaPolicy(), plans(*names), **more)


def test_one_row_a_metric_and_features_under_the_rows_key(tmp_path: Path) -> None:
    result = measure_clip(task(tmp_path, "Brightness", "Means"))
    brightness, means = result.rows
    assert 90 < brightness.values["brightness"] < 160 and brightness.failure is None
    assert list(result.features) == [means.features] == [means.key]
    assert result.features[means.key].shape == (20, 3)


def test_all_metrics_of_a_clip_share_one_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decodes = []
    real = clip_module.MediaClip._decode

    def counted(clip: clip_module.MediaClip) -> object:
        decodes.append(clip.path)
        return real(clip)

    monkeypatch.setattr(clip_module.MediaClip, "_decode", counted)
    measure_clip(task(tmp_path, "Brightness", "Means", "Brightness"))
    assert len(decodes) == 1


@pytest.mark.parametrize(
    ("fails", "reason", "words"),
    [
        ("sample", "too_dark", "nothing to see"),
        ("bug", "metric_error", "ZeroDivisionError: a bug"),
        ("nan", "not_finite", "nan"),
    ],
)
def test_one_metrics_failure_is_a_row_and_leaves_the_others(
    tmp_path: Path, fails: str, reason: str, words: str
) -> None:
    failed, scored = measure_clip(task(tmp_path, f"Brightness/{fails}", "Means")).rows
    assert failed.failure is not None and failed.failure.reason == reason and words in failed.failure.message
    assert failed.values == {} and scored.failure is None


def test_what_is_wrong_with_the_run_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights"):
        measure_clip(task(tmp_path, "Brightness/usage"))


def test_an_unreadable_clip_fails_every_metric_with_its_reason(tmp_path: Path) -> None:
    bad = task(tmp_path, "Brightness", "Means")
    bad.path.write_text("not a video")
    rows = measure_clip(bad).rows
    assert [row.failure.reason for row in rows if row.failure] == ["not_a_video", "not_a_video"]


def test_an_absent_clip_is_a_row_that_says_so(tmp_path: Path) -> None:
    rows = measure_clip(task(tmp_path, "Brightness", absent="ours has no clip for 'a'")).rows
    assert rows[0].failure is not None
    assert (rows[0].failure.reason, rows[0].failure.message, rows[0].clip) == (
        "missing_clip",
        "ours has no clip for 'a'",
        "",
    )


def test_empty_features_are_a_failure_not_a_value(tmp_path: Path) -> None:
    plan = plan_metric(MetricSpec(f"{HERE}:Means", {"empty": True}), {})
    dialogue = Dialogue("a", (Turn(),))
    write_clips(tmp_path, ["a"])
    row = measure_clip(plan_clip("set", "ours", dialogue, tmp_path / "a.mp4", MediaPolicy(), [plan])).rows[0]
    assert row.failure is not None and row.failure.reason == "no_features"


def test_a_key_changes_with_everything_that_can_change_the_row(tmp_path: Path) -> None:
    base = task(tmp_path, "Brightness")
    dialogue, path, metrics = base.dialogue, base.path, base.metrics
    other_metric = plans("Brightness/sample")

    def key(**change: object) -> str:
        given = {"dialogue": dialogue, "policy": MediaPolicy(), "metrics": metrics} | change
        return plan_clip("set", "ours", path=path, **given).keys[0]  # type: ignore[arg-type]

    keys = {
        key(),
        key(policy=MediaPolicy(fps=16)),
        key(policy=MediaPolicy(skip_first_frame=True)),
        key(metrics=other_metric),
        key(dialogue=Dialogue("a", (Turn(text="hello"),))),
        key(dialogue=Dialogue("b", dialogue.turns)),
    }
    assert len(keys) == 6 and key() in keys
    write_clips(tmp_path, ["a"], seed=9)
    assert key() not in keys


def test_only_what_is_missing_is_measured_again(tmp_path: Path) -> None:
    whole = task(tmp_path, "Brightness", "Means")
    rows = {row.key: row for row in measure_clip(whole).rows}
    assert remaining([whole], rows) == []
    rows.pop(whole.keys[0])
    (left,) = remaining([whole], rows)
    assert (left.metrics, left.keys) == (whole.metrics[:1], whole.keys[:1])


def test_a_failure_of_the_machine_is_tried_again_and_one_of_the_clip_is_not(tmp_path: Path) -> None:
    bug, sample = task(tmp_path, "Brightness/bug"), task(tmp_path, "Brightness/sample")
    rows = {row.key: row for one in (bug, sample) for row in measure_clip(one).rows}
    assert remaining([bug, sample], rows) == [bug]


def test_workers_give_the_rows_of_the_serial_run(tmp_path: Path) -> None:
    folder = write_clips(tmp_path, ["a", "b", "c"])
    metrics = plans("Brightness", "Means")
    tasks = [
        plan_clip("set", "ours", Dialogue(i, (Turn(),)), folder / f"{i}.mp4", MediaPolicy(), metrics) for i in "abc"
    ]

    def run(workers: int) -> tuple[dict[str, Row], dict[str, bytes]]:
        rows: dict[str, Row] = {}
        features: dict[str, bytes] = {}
        told = []

        def keep(result: object) -> None:
            rows.update({row.key: Row(**{**row.__dict__, "details": {}}) for row in result.rows})  # type: ignore[attr-defined]
            features.update({key: array.tobytes() for key, array in result.features.items()})  # type: ignore[attr-defined]

        measure(tasks, ExecutionPolicy(workers=workers, threads=1), keep, lambda *what: told.append(what))
        assert [done for done, _, _ in told] == [1, 2, 3]
        return rows, features

    assert run(1) == run(2)


def test_an_object_that_measures_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="neither score"):
        plan_metric(MetricSpec(f"{HERE}:Nothing"), {})


@dataclass(frozen=True)
class Upside:
    """A metric whose direction is misspelt."""

    columns = {"up": Column("highest")}  # type: ignore[arg-type]

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Return nothing."""
        return {}


def test_a_direction_that_is_none_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(SpecError, match=r"column 'up'.*higher, lower, neither"):
        plan_metric(MetricSpec(f"{HERE}:Upside"), {})


def test_a_bug_is_told_with_its_place(tmp_path: Path) -> None:
    (row,) = measure_clip(task(tmp_path, "Brightness/bug")).rows
    assert row.failure is not None and "test_measure.py, line" in row.failure.message
    assert "ZeroDivisionError" in row.details["traceback"]


def test_the_frames_a_metric_sees_are_those_of_the_policy(tmp_path: Path) -> None:
    seen: list[Frames] = []
    one = task(tmp_path, "Means")
    metric = load_metric(one.metrics[0])
    with clip_module.MediaClip(one.path, MediaPolicy(fps=12.5)) as clip:
        seen.append(clip.frames)
        assert len(metric.features(clip)) == 10  # type: ignore[union-attr]
    assert seen[0].shape == (10, 64, 64, 3)


@dataclass(frozen=True)
class PerFrame:
    """The mean of all pixels, and of each frame in the row's details."""

    unavailable: str = ""

    columns = {"mean": Column("neither")}

    def score(self, sample: Sample) -> Score:
        """Return mean and details."""
        means = [float(frame.mean()) for frame in sample.clip.frames]
        return Score({"mean": sum(means) / len(means)}, {"means": means})

    def findings(self, details: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return how many frames there were."""
        return [f"{sum(len(found['means']) for found in details)} frames were looked at."]


def test_a_rows_details_hold_what_a_value_was_made_of(tmp_path: Path) -> None:
    (row,) = measure_clip(task(tmp_path, "PerFrame")).rows
    assert len(row.details["means"]) == 20 and "seconds" in row.details
    assert row.values["mean"] == pytest.approx(np.mean(row.details["means"]))


def test_a_metric_says_that_it_has_no_value_for_any_clip() -> None:
    (scoring,) = plans("PerFrame")
    idle = plan_metric(MetricSpec(f"{HERE}:PerFrame", {"unavailable": "no small network"}), {})
    assert (unavailable(scoring), unavailable(idle)) == ("", "no small network")
    assert unavailable(plans("Brightness")[0]) == ""


def test_boxes_of_the_data_set_and_beside_the_clip_are_part_of_a_clip_metrics_key(tmp_path: Path) -> None:
    folder = write_clips(tmp_path, ["a"])
    boxes = tmp_path / "boxes.json"

    def keys() -> list[str]:
        dialogue = Dialogue("a", (Turn(faces=boxes),))
        return list(
            plan_clip("set", "ours", dialogue, folder / "a.mp4", MediaPolicy(), plans("Brightness", "Means")).keys
        )

    seen = [keys()]
    boxes.write_text("{}")
    seen.append(keys())
    (folder / "a.faces.json").write_text("{}")
    seen.append(keys())
    assert len({score for score, _ in seen}) == 3 and len({features for _, features in seen}) == 1
