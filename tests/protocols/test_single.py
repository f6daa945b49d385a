"""The single-round recipe on small clips: a table, a folder that can be continued, and messages that suffice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval.errors import DatasetError, SpecError, StoreError, UnknownNameError, WeightsError
from lt_eval.protocols import single
from lt_eval.protocols.single import Outcome
from lt_eval.records import GROUND_TRUTH, Frames
from lt_eval.report.runs import read_run
from lt_eval.spec import build, merge
from lt_eval.store import RunStore, read_rows, read_summary
from tests.clips import moving_frames, tone, write_clips, write_wav

BRIGHTNESS, MEANS = "tests.test_measure:Brightness", "tests.test_measure:Means"


class Runner:
    """A small run in a folder of its own, and what it told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refs = write_clips(root / "refs", ["a", "b", "c"])
        self.said: list[str] = []
        self.told: list[tuple[str, int, int]] = []
        self.folder_options: dict[str, str] = {}

    def spec(self, **more: Any) -> dict[str, Any]:
        folder = {"name": "folder", "root": str(self.refs), **self.folder_options}
        if ":" in more.get("dataset", {}).get("name", ""):
            folder = {}
        return merge(
            {
                "dataset": folder,
                "metrics": [BRIGHTNESS, MEANS],
                "execution": {"threads": 1},
            },
            more,
        )

    def run(self, out: str = "run", **more: Any) -> Outcome:
        return single.run(
            build(self.spec(**more)),
            self.root / out,
            progress=lambda stage, done, total, _: self.told.append((stage, done, total)),
            say=self.said.append,
        )


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_two_methods_against_references_fill_a_table(runner: Runner, tmp_path: Path) -> None:
    write_clips(tmp_path / "near", ["a", "b", "c"], blur=3)
    write_clips(tmp_path / "far", ["a", "b", "c"], seed=50)
    outcome = runner.run(method={"near": {"clips": str(tmp_path / "near")}, "far": {"clips": str(tmp_path / "far")}})
    assert outcome.failures == ()
    assert [m.name for m in outcome.summary.methods] == [GROUND_TRUTH, "near", "far"]
    cells = {(c.method, c.column): c for c in outcome.summary.cells}
    assert len(cells) == 6 and all(c.n == 3 for c in cells.values())
    near, far = cells["near", "means"].value, cells["far", "means"].value
    assert near is not None and far is not None and near < far
    assert cells[GROUND_TRUTH, "brightness"].value is not None and cells[GROUND_TRUTH, "means"].value is None
    assert ("measure", 9, 9) in runner.told


def test_a_metric_that_cannot_score_leaves_empty_cells_that_say_why_and_no_failure(runner: Runner) -> None:
    idle = "tests.test_measure:PerFrame"
    outcome = runner.run(metrics=[BRIGHTNESS, idle], metric={idle: {"unavailable": "no small network"}})
    cells = {cell.column: cell for cell in outcome.summary.cells}
    assert (cells["mean"].value, cells["mean"].note) == (None, "no small network")
    assert cells["brightness"].value is not None
    assert outcome.failures == () and outcome.lacking == ()


def test_what_the_rows_show_together_is_a_footnote(runner: Runner) -> None:
    outcome = runner.run(metrics=["tests.test_measure:PerFrame"])
    assert "60 frames were looked at." in outcome.summary.footnotes


def test_unmatched_names_are_reported_both_ways(runner: Runner, tmp_path: Path) -> None:
    write_clips(tmp_path / "ours", ["a", "b", "d"])
    outcome = runner.run(method={"ours": {"clips": str(tmp_path / "ours")}})
    assert any("c" in said and "d.mp4" in said for said in runner.said)
    missing = [row for row in outcome.failures if row.failure and row.failure.reason == "missing_clip"]
    assert [(row.method, row.sample) for row in missing] == [("ours", "c")] * 2
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["methods"][1]["unmatched_files"] == ["d.mp4"]


def test_a_second_run_measures_nothing_and_gives_the_same_bytes(runner: Runner, tmp_path: Path) -> None:
    runner.run()
    first = (tmp_path / "run" / "summary.json").read_bytes()
    rows = len(read_rows(tmp_path / "run"))
    runner.told.clear()
    runner.run()
    assert (tmp_path / "run" / "summary.json").read_bytes() == first
    assert len(read_rows(tmp_path / "run")) == rows
    assert not any(stage == "measure" for stage, _, _ in runner.told)


def test_a_changed_clip_is_measured_again(runner: Runner, tmp_path: Path) -> None:
    ours = write_clips(tmp_path / "ours", ["a", "b", "c"])
    method = {"ours": {"clips": str(ours)}}
    before = runner.run(method=method).summary
    write_clips(ours, ["b"], seed=77)
    runner.told.clear()
    after = runner.run(method=method).summary
    assert runner.told[0] == ("measure", 1, 1) and before.cells != after.cells


def test_a_method_can_be_added_to_a_finished_run(runner: Runner, tmp_path: Path) -> None:
    runner.run()
    runner.told.clear()
    outcome = runner.run(method={"ours": {"clips": str(write_clips(tmp_path / "ours", ["a", "b", "c"]))}})
    assert runner.told[2] == ("measure", 3, 3) and len(outcome.summary.methods) == 2


def test_workers_do_not_change_the_table(runner: Runner, tmp_path: Path) -> None:
    serial = runner.run("serial").summary
    parallel = runner.run("parallel", execution={"workers": 2}).summary
    assert serial == parallel


def test_limit_takes_the_first_samples(runner: Runner) -> None:
    ours = write_clips(runner.root / "ours", ["a", "b", "c"])
    outcome = runner.run(limit=2, method={"ours": {"clips": str(ours)}})
    assert {cell.total for cell in outcome.summary.cells} == {2}
    assert runner.said == []  # c.mp4 belongs to the data set, and is no stray file


def test_a_folder_of_another_data_set_is_not_overwritten(runner: Runner, tmp_path: Path) -> None:
    runner.run()
    write_clips(runner.refs, ["b"], seed=33)
    with pytest.raises(StoreError, match=r"another version of data set 'folder'.*another --out"):
        runner.run()


def test_a_folder_in_use_is_refused(runner: Runner, tmp_path: Path) -> None:
    with RunStore(tmp_path / "run"), pytest.raises(StoreError, match="another lt-eval process"):
        runner.run()


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"dataset": {"name": ""}}, SpecError, "No data set was named"),
        ({"dataset": {"name": "foldr"}}, UnknownNameError, "Did you mean 'folder'"),
        ({"dataset": {"rot": "x"}}, SpecError, "no option 'rot'"),
        ({"method": {"x": {"clips": "/nowhere"}}}, DatasetError, "no such folder"),
        ({"metrics": ["fid"]}, WeightsError, "lt-eval weights fetch"),
        ({"metrics": ["fdi"]}, UnknownNameError, "Did you mean 'fvd' or 'fid'"),
        ({"metric": {MEANS: {"emtpy": True}}}, SpecError, "Did you mean 'empty'"),
        ({"baseline": "none"}, SpecError, "baseline"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_said_before_anything_is_measured(
    runner: Runner, more: dict[str, Any], error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(runner.root / "no-weights"))
    with pytest.raises(error, match=words):
        runner.run(**more)
    assert runner.told == []


def test_a_generator_is_rendered_timed_and_measured(driven: Runner) -> None:
    method = {"toy": {"generator": "lt_eval.testing:ToyGenerator", "model_size": "0"}}
    outcome = driven.run(method=method)
    assert outcome.failures == ()
    cells = {(c.method, c.column): c for c in outcome.summary.cells}
    throughput, latency = cells["toy", "Throughput"], cells["toy", "Latency"]
    assert throughput.value and latency.value and throughput.n == 3
    assert cells[GROUND_TRUTH, "Throughput"].value is None
    made = driven.root / "run" / "clips" / "toy"
    assert sorted(path.name for path in made.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"]
    driven.told.clear()
    again = driven.run(method=method)
    assert not any(stage in ("generate", "measure") for stage, _, _ in driven.told)
    assert again.summary == outcome.summary


def test_a_data_set_without_references_has_no_row_of_failures(runner: Runner, tmp_path: Path) -> None:
    outcome = runner.run(
        dataset={"name": "tests.protocols.recordings:Recordings"},
        method={"ours": {"clips": str(write_clips(tmp_path / "ours", ["x", "y"]))}},
    )
    assert [m.name for m in outcome.summary.methods] == ["ours"] and outcome.failures == ()
    assert [cell.column for cell in outcome.lacking] == ["means"]
    cells = {c.column: c for c in outcome.summary.cells}
    assert cells["brightness"].n == 2
    assert cells["means"].value is None and "no reference" in cells["means"].note


def test_the_builtin_networks_run_end_to_end(runner: Runner, tmp_path: Path) -> None:
    write_clips(tmp_path / "near", ["a", "b", "c"], blur=3)
    write_clips(tmp_path / "far", ["a", "b", "c"], blur=15)
    methods = {name: {"clips": str(tmp_path / name)} for name in ("near", "far")}
    outcome = runner.run(metrics=["fid", "fvd"], weights="builtin", method=methods)
    assert outcome.failures == ()
    value = {(c.method, c.column): c.value for c in outcome.summary.cells}
    for column in ("FID (builtin)", "FVD (builtin)"):
        near, far = value["near", column], value["far", column]
        assert near is not None and far is not None and 0 < near < far


@dataclass(frozen=True)
class Gray:
    """A generator of one gray, which its options set; it may break."""

    level: int = 100
    mode: str = ""

    fps = 25.0
    sample_rate = 16_000

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Gray]:
        yield self

    def speak(self, speech: object, *, text: str = "") -> Iterator[Frames]:
        if self.mode == "boom":
            raise RuntimeError("boom")
        if self.mode == "slow":
            yield np.zeros((0, 64, 64, 3), np.uint8)
            time.sleep(0.2)
        yield np.full((20, 64, 64, 3), self.level, np.uint8)


@pytest.fixture
def driven(runner: Runner) -> Runner:
    """A runner whose data set can drive a generator."""
    import cv2

    (runner.root / "portraits").mkdir()
    for name in "abc":
        cv2.imwrite(str(runner.root / "portraits" / f"{name}.png"), moving_frames(1, 1)[0])
        write_wav(runner.root / "speech" / f"{name}.wav", tone(1, 0.8))
    runner.folder_options = {"speech": str(runner.root / "speech"), "portraits": str(runner.root / "portraits")}
    return runner


def gray(**options: object) -> dict[str, Any]:
    return {"g": {"generator": "tests.protocols.test_single:Gray", "options": options}}


def value(outcome: Outcome, method: str, column: str) -> float | None:
    (cell,) = (c for c in outcome.summary.cells if (c.method, c.column) == (method, column))
    return cell.value


def test_options_changed_and_changed_back_never_serve_the_other_settings_clips(driven: Runner) -> None:
    levels = [value(driven.run(method=gray(level=level)), "g", "brightness") for level in (50, 200, 50)]
    assert levels == [pytest.approx(level, abs=3) for level in (50, 200, 50)]


def test_a_rendered_clip_that_was_replaced_is_rendered_again(driven: Runner) -> None:
    driven.run(method=gray(level=50))
    write_clips(driven.root / "run/clips/g", ["b"], seed=5)
    assert value(driven.run(method=gray(level=50)), "g", "brightness") == pytest.approx(50, abs=3)


def test_clips_have_no_times_of_a_generator_that_had_their_name(driven: Runner) -> None:
    driven.run(method=gray())
    outcome = driven.run(method={"g": {"clips": str(write_clips(driven.root / "ours", ["a", "b", "c"]))}})
    assert "Throughput" not in outcome.summary.columns


def test_a_generator_that_breaks_leaves_rows_and_a_table(driven: Runner) -> None:
    outcome = driven.run(method=gray(mode="boom"))
    reasons = [row.failure.reason for row in outcome.failures if row.failure]
    assert reasons.count("generation_failed") == 3 and value(outcome, GROUND_TRUTH, "brightness") is not None


def test_a_generator_that_hangs_costs_its_clip_and_the_run_goes_on(driven: Runner, tmp_path: Path) -> None:
    """Without a warm-up the first clip hangs, in a thread of its own too; the other two have times."""
    options = {"mode": "hang", "once": str(tmp_path / "happened")}
    hanging = {"odd": {"generator": "tests.bench.odd:Odd", "options": options}}
    outcome = driven.run(method=hanging, warmups=0, generator_timeout_s=6.0, metrics=["speed"])
    (failed,) = outcome.failures
    assert failed.sample == "a" and failed.failure is not None and failed.failure.reason == "generation_timeout"
    assert "6 s" in failed.failure.message and "--generator-timeout" in failed.failure.message
    (cell,) = (c for c in outcome.summary.cells if (c.method, c.column) == ("odd", "Throughput"))
    assert (cell.n, cell.total) == (2, 3) and "generation_timeout: 1 clip" in cell.note


def test_speed_alone_measures_speed_alone(driven: Runner) -> None:
    outcome = driven.run(method=gray(), metrics=["speed"])
    assert driven.said == [] and "g does not stream" in outcome.summary.footnotes[-1]
    assert list(outcome.summary.columns) == ["Throughput", "Latency"] and outcome.lacking == ()
    assert not any(stage == "measure" for stage, _, _ in driven.told)


def test_speed_among_other_metrics_adds_what_a_generator_has_anyway(driven: Runner) -> None:
    columns = list(driven.run(method=gray(), metrics=["speed", BRIGHTNESS]).summary.columns)
    assert columns == ["Throughput", "Latency", "brightness"]


def test_speed_of_finished_clips_is_refused(runner: Runner) -> None:
    with pytest.raises(SpecError, match="no generator was named"):
        runner.run(metrics=["speed"], method={"ours": {"clips": str(runner.refs)}})


def test_an_empty_chunk_is_no_first_frame(driven: Runner) -> None:
    latency = value(driven.run(method=gray(mode="slow")), "g", "Latency")
    assert latency is not None and latency >= 0.2


def test_an_unfinished_run_under_other_settings_has_no_table(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of before must not stand under the new manifest."""
    runner.run()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(single, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        runner.run(media={"fps": 50})
    with pytest.raises(StoreError, match="run its command again"):
        read_summary(runner.root / "run")


def test_a_report_shows_only_the_rows_of_its_table(runner: Runner) -> None:
    for fps in (25, 50, 25):
        outcome = runner.run(media={"fps": fps})
    rows = read_run(runner.root / "run").rows
    assert sorted(row.key for row in rows) == list(outcome.summary.keys)
    assert {row.details["features"] for row in rows if row.metric == MEANS} == {20}


def test_two_metrics_of_one_column_are_refused(runner: Runner) -> None:
    with pytest.raises(SpecError, match=r"both have a column 'FID \(builtin\)'"):
        runner.run(metrics=["fid", "lt_eval.metrics.fid:FID"], weights="builtin")


def test_the_runs_seed_reaches_metrics_that_ask_for_it(runner: Runner) -> None:
    runner.run(metrics=["fid"], weights="builtin", seed=7)
    manifest = json.loads((runner.root / "run" / "manifest.json").read_text())
    assert manifest["metrics"][0]["offered"]["seed"] == 7


@pytest.mark.parametrize(
    ("kind", "words"),
    [("climb", "no sample id"), ("twice", "two samples"), ("turnless", "no turn"), ("taken", "ground-truth")],
)
def test_a_data_set_that_cannot_be_told_apart_is_refused(runner: Runner, kind: str, words: str) -> None:
    with pytest.raises((DatasetError, SpecError), match=words):
        runner.run(dataset={"name": "tests.protocols.recordings:Odd", "kind": kind})


@pytest.mark.parametrize("kind", ["nan", "numpy", "raise", "partial"])
def test_a_plugins_distance_cannot_take_the_table_away(runner: Runner, kind: str) -> None:
    ours = {"ours": {"clips": str(write_clips(runner.root / "ours", ["a", "b", "c"]))}}
    odd = "tests.protocols.recordings:OddDistance"
    outcome = runner.run(metrics=[odd, MEANS], metric={odd: {"kind": kind}}, method=ours)
    assert value(outcome, "ours", "means") is not None
    assert (value(outcome, "ours", "odd") is None) == (kind != "numpy")
    assert [cell.column for cell in outcome.lacking] == ([] if kind == "numpy" else ["odd"])
