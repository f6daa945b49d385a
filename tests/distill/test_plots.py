"""Curves of a distillation: what a log says is what is drawn, and the step that was kept is seen."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from lt_eval.cli import main
from lt_eval.distill.plots import Curve, curves_of, kept_step, plot, plots_of, thinned, write_plots
from lt_eval.errors import StoreError

LOG: list[dict[str, Any]] = [
    {"step": 0, "held_out": {"FID": 9.0, "loss": 30.0}},
    {"step": 1, "loss": 5.0, "norm": 2.0},
    {"step": 10, "loss": 4.0, "norm": float("nan")},
    {"step": 10, "held_out": {"FID": 5.0, "Sync-C": 3.0, "loss": 20.0}},
    {"step": 20, "loss": 3.0, "norm": 1.0},
    {"step": 20, "held_out": {"FID": 7.0, "Sync-C": 2.0, "loss": 25.0}},
]


def log(folder: Path, lines: list[dict[str, Any]] = LOG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def polyline(svg: str) -> list[tuple[float, float]]:
    (found,) = ElementTree.fromstring(svg).findall(".//{*}polyline")
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.attrib["points"].split())]


def test_every_quantity_is_a_curve_and_what_is_not_finite_is_counted() -> None:
    curves = {(curve.measured, curve.name): curve for curve in curves_of(LOG)}
    assert list(curves) == [(False, "loss"), (False, "norm"), (True, "FID"), (True, "loss"), (True, "Sync-C")]
    assert curves[False, "loss"].points == [(1, 5), (10, 4), (20, 3)]
    assert curves[True, "Sync-C"].points == [(10, 3), (20, 2)]
    assert (curves[False, "norm"].points, curves[False, "norm"].skipped) == ([(1, 2), (20, 1)], 1)


def test_a_curve_is_drawn_to_scale() -> None:
    drawn = plot(Curve("FID", [(0, 1.0), (10, 3.0), (20, 2.0)], measured=True), kept=10)
    (a, b, c), marks = polyline(drawn.svg), ElementTree.fromstring(drawn.svg)
    assert a[0] < b[0] < c[0] and b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.11)
    assert a[1] > c[1] > b[1] and (a[1] - b[1]) == pytest.approx(2 * (c[1] - b[1]), abs=0.25)
    assert len(marks.findall(".//{*}circle")) == 3
    (kept,) = [line for line in marks.findall(".//{*}line") if line.attrib["class"] == "kept"]
    assert float(kept.attrib["x1"]) == b[0] and "kept: step 10" in drawn.subtitle


@pytest.mark.parametrize("points", [[(5, 2.0)], [(1, 0.0), (2, 0.0)], [(0, 1e-9), (1, 3e-9)], [(0, -1e6), (9, 1e6)]])
def test_curves_without_spread_or_of_any_size_can_be_drawn(points: list[tuple[float, float]]) -> None:
    assert len(polyline(plot(Curve("x", points, measured=False)).svg)) == len(points)


def test_the_kept_step_is_the_lowest_held_out_loss() -> None:
    assert kept_step(curves_of(LOG)) == 10
    assert kept_step(curves_of([{"step": 1, "loss": 1.0}])) is None


def test_long_logs_are_means_of_neighbours() -> None:
    points = [(float(step), float(step % 2)) for step in range(1001)]
    few = thinned(points, 100)
    assert len(few) <= 100 and all(value == pytest.approx(0.5, abs=0.1) for _, value in few[:-1])
    assert sum(step for step, _ in few[:-1]) == pytest.approx(11 * len(few[:-1]) ** 2 / 2 - 0.5 * len(few[:-1]))
    assert thinned(points[:100], 100) == points[:100]
    assert "means of neighbours" in plot(Curve("x", points, measured=False)).subtitle


def test_only_stages_that_keep_their_best_mark_it(tmp_path: Path) -> None:
    for stage, marked in (("dmd", 3), ("teacher", 0)):
        drawn = plots_of(log(tmp_path / stage))
        assert sum('class="kept"' in one.svg for one in drawn) == marked
        assert [one.title for one in drawn][:3] == ["loss", "norm", "FID, held out"]


def test_a_page_holds_every_stage_that_has_begun(tmp_path: Path) -> None:
    log(tmp_path / "teacher", LOG[1:3])
    log(tmp_path / "dmd")
    (tmp_path / "teacher" / "done.json").write_text('{"steps": 20, "reason": "converged", "seconds": 3.2}')
    page = write_plots(tmp_path).read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Teacher", "Distribution matching (DMD)"]
    assert "after 20 steps and 3 s because its held-out loss had converged" in page and "Not at its end yet" in page
    assert len(re.findall("<svg", page)) == 2 + 5 == len(list((tmp_path / "plots").glob("*.svg")))
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for file in (tmp_path / "plots").glob("*.svg"):
        ElementTree.parse(file)
    before = page
    assert write_plots(tmp_path).read_text() == before


def test_a_folder_without_logs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreError, match="no stage of a distillation has a log there"):
        write_plots(tmp_path)
    for folder, code in ((tmp_path, 2), (log(tmp_path / "out" / "dmd").parent, 0)):
        monkeypatch.setattr(sys, "argv", ["lt-eval", "distill", "plots", "--out", str(folder)])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code in (code, code or None)
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "plots.html")
