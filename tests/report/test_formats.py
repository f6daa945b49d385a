from __future__ import annotations

import csv as stdlib_csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lt_eval.errors import StoreError, UsageError
from lt_eval.records import Cell, Column, MethodInfo, Summary
from lt_eval.report import (
    FORMATS,
    csv,
    differences,
    markdown,
    read_run,
    render,
    text,
    wide,
    write_html,
    write_text,
)
from lt_eval.report.table import UNRANKED
from tests.report.fixtures import NASTY, builtin_only, summary, write_run

TEXTS = [name for name in FORMATS if name != "html"]


def test_tidy_has_exactly_the_stated_columns_and_survives_pandas() -> None:
    content = render("csv", [summary(), builtin_only()], tidy=True)
    assert content.split("\n")[0] == "dataset,method,column,value,low,high,n,total,unit,better"
    frame = pd.read_csv(io.StringIO(content))
    cells = [cell for s in (summary(), builtin_only()) for cell in s.cells]
    assert len(frame) == len(cells)
    for line, cell in zip(frame.to_dict("records"), cells, strict=True):
        assert (line["dataset"], line["method"], line["column"]) == (cell.dataset, cell.method, cell.column)
        assert line["value"] == pytest.approx(float("nan") if cell.value is None else cell.value, abs=0, nan_ok=True)
        assert line["low"] == pytest.approx(float("nan") if cell.low is None else cell.low, abs=0, nan_ok=True)
        assert line["total"] == pytest.approx(cell.total or float("nan"), nan_ok=True)


def test_tidy_marks_published_rows_without_a_further_column() -> None:
    frame = pd.read_csv(io.StringIO(render("csv", [summary()], tidy=True, with_paper="table1")))
    published = frame[frame.method.str.endswith(" (published)")]
    assert len(published) == 21 * 8 and len(frame) == len(published) + len(summary().cells)
    row = published[(published.method == "LiveTalk (published)") & (published.column == "FID")]
    assert list(row.value) == [13.68, 33.96, 25.37]


def test_wide_csv_holds_values_bounds_and_counts() -> None:
    lines = list(stdlib_csv.DictReader(io.StringIO(render("csv", [summary()]))))
    ours = next(line for line in lines if line["method"] == "ours")
    assert (float(ours["FID"]), float(ours["FID low"]), float(ours["FID high"])) == (13.684, 13.684 * 0.9, 13.684 * 1.1)
    assert (ours["FID n"], ours["FID N"], ours["Model Size"]) == ("8", "8", "1.3B")
    assert "Latency (s) low" not in ours
    assert next(line for line in lines if line["method"] == NASTY)["Throughput (FPS)"] == "0.97"
    plain = render("csv", [summary()], intervals=False).split("\n")[0]
    assert "low" not in plain and " n" not in plain


def named(*names: str) -> Summary:
    column = Column("higher")
    cells = tuple(Cell("set", name, "@Sync", -1.5, -2.5, -0.5, 8, 8, "", "higher") for name in names)
    return Summary("set", tuple(MethodInfo(name, "-x") for name in names), {"@Sync": column}, cells)


@pytest.mark.parametrize("tidy", [False, True])
@pytest.mark.parametrize("name", ["=1+2", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", " =1+2", "\t=1+2", "\r=1+2"])
def test_no_text_in_csv_is_read_as_a_formula(name: str, tidy: bool) -> None:
    found = list(stdlib_csv.reader(io.StringIO(render("csv", [named(name)], tidy=tidy), newline="")))
    assert all(cell.lstrip()[:1] not in tuple("=+@") for line in found for cell in line)
    assert f"'{name}".replace("\r", " ") in found[1] and (tidy or "'-x" in found[1])
    assert [cell for cell in found[1] if cell.startswith("-")] == ["-1.5", "-2.5", "-0.5"]


def test_ordinary_names_and_numbers_are_as_they_were_in_csv() -> None:
    names = ["ours", "a=b", "a-b", "a@b", "'quoted'", "Größe", "a,b", 'say "x"', "-1.5", "+3", NASTY]
    for tidy in (False, True):
        lines = list(stdlib_csv.DictReader(io.StringIO(render("csv", [named(*names)], tidy=tidy))))
        assert [line["method"] for line in lines] == names


@pytest.mark.parametrize(
    ("format", "best"),
    [
        ("text", "10.85*"),
        ("markdown", "**10.85**"),
        ("latex", r"\textbf{10.85}"),
        ("html", "<strong>10.85</strong>"),
    ],
)
def test_every_writer_leaves_partial_values_unmarked_and_says_so(format: str, best: str, tmp_path: Path) -> None:
    whole = summary()
    partial = tuple(
        replace(cell, n=4) if (cell.method, cell.column) == (NASTY, "FID") else cell for cell in whole.cells
    )
    first, second = (
        _rendered(format, replace(whole, cells=cells), tmp_path / str(i))
        for i, cells in enumerate((whole.cells, partial))
    )
    assert best in first and best not in second and "10.85" in second
    assert UNRANKED in second


def _rendered(format: str, shown: Summary, folder: Path) -> str:
    if format != "html":
        return render(format, [shown])
    folder.mkdir()
    run = read_run(write_run(folder / "run"))
    return write_html([replace(run, summary=shown)], folder / "out").read_text(encoding="utf-8")


@pytest.mark.parametrize("format", TEXTS)
def test_output_is_the_same_every_time_and_after_json(format: str) -> None:
    again = Summary.from_json(json.loads(json.dumps(summary().to_json())))
    assert render(format, [summary()], with_paper="all") == render(format, [again], with_paper="all")


def test_markdown_has_one_cell_a_column_whatever_a_method_is_called() -> None:
    lines = [line for line in markdown.render(wide([summary()])).split("\n") if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "<i>" not in "\n".join(lines).replace("\\<i\\>", "")


def test_markdown_prints_interval_count_and_marks() -> None:
    content = markdown.render(wide([summary()]))
    assert "**10.85** [9.77, 11.94]" in content
    assert "<u>13.68</u> [12.32, 15.05]" in content
    assert "99.00 [89.10, 108.90] (7/8)" in content
    assert "FID ↓" in content and "Sync-C ↑" in content
    assert "[9.77" not in markdown.render(wide([summary()]), intervals=False)


def test_text_folds_to_the_width_and_loses_no_value() -> None:
    table = wide([summary()], with_paper="all")
    unfolded, folded = text.render(table), text.render(table, width=90)
    assert max(map(len, folded.split("\n"))) <= 90 < max(map(len, unfolded.split("\n")))
    for block in table.blocks:
        for row in block.rows:
            assert all(cell.text in folded and cell.interval in folded for cell in row.cells)


def test_text_marks_by_sign_or_by_style_and_never_by_both() -> None:
    plain, styled = render("text", [summary()]), render("text", [summary()], color=True)
    assert "10.85*" in plain and "13.68'" in plain and "\x1b" not in plain
    assert "\x1b[1m10.85\x1b[0m" in styled and "\x1b[4m13.68\x1b[0m" in styled and "10.85*" not in styled
    without_style = re.sub(r"\x1b\[\d*m", "", styled)
    lengths = {len(line) for line in without_style.split("\n") if line.startswith(("ours", "worst", "HDTF ─"))}
    assert len(lengths) == 2  # one for each of the two tables


def test_differences_are_a_second_table() -> None:
    assert "minus ours" in render("markdown", [summary()])
    assert "-2.83" in markdown.render(differences([summary()]))
    assert "minus" not in render("markdown", [builtin_only()])


def test_a_wrong_format_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'latex'"):
        render("latx", [summary()])
    with pytest.raises(UsageError, match="--format csv --tidy"):
        render("latex", [summary()], tidy=True)
    with pytest.raises(UsageError, match="--out"):
        render("html", [summary()])


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "table.csv", "a\n")
    assert (tmp_path / "new" / "table.csv").read_text() == "a\n"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["table.csv"]
    with pytest.raises(StoreError, match=r"table\.csv"):
        write_text(tmp_path / "new" / "table.csv" / "below.csv", "b\n")


def test_importing_the_report_loads_nothing_heavy() -> None:
    heavy = {"torch", "cv2", "av", "pandas", "matplotlib", "jinja2", "numpy"}
    code = f"import sys, lt_eval.report; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_csv_of_the_wide_form_marks_published_methods() -> None:
    content = csv.render(wide([summary()], with_paper="table1"))
    assert "HDTF,LiveTalk (published),1.3B,24.82,0.33,13.68" in content


@pytest.mark.parametrize("format", TEXTS)
def test_a_run_without_a_single_value_still_has_a_table(format: str) -> None:
    empty = Summary("none", (), {}, ())
    assert render(format, [empty])
    assert render(format, []) is not None
