"""Runs of one data set side by side: each block and each note says whose it is."""

from __future__ import annotations

import csv as stdlib_csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lt_eval.cli import app
from lt_eval.records import Summary
from lt_eval.report import FORMATS, differences, read_run, render, wide, write_html
from lt_eval.report.table import tell_apart
from tests.report.fixtures import summary, write_run
from tests.report.test_html import data_of

NAMES = ("early", "late")


def at(rate: int, dataset: str = "HDTF") -> Summary:
    return replace(summary(dataset), footnotes=(f"Clips are resampled to {rate} fps.",))


def write_at(folder: Path, rate: int) -> Path:
    write_run(folder)
    (folder / "summary.json").write_text(json.dumps(at(rate).to_json()), encoding="utf-8")
    return folder


def test_blocks_and_notes_of_one_data_set_carry_the_runs_names() -> None:
    table = wide([at(25), at(50)], names=NAMES)
    assert [block.dataset for block in table.blocks] == ["HDTF (early)", "HDTF (late)"]
    assert "HDTF (early): Clips are resampled to 25 fps." in table.notes
    assert "HDTF (late): Clips are resampled to 50 fps." in table.notes
    assert table.caption == "Results on HDTF"
    for name in NAMES:
        assert any(note.startswith(f"HDTF ({name}): (n/N)") for note in table.notes)
        assert any(note.startswith(f"HDTF ({name}): Floor") for note in table.notes)
    second = differences([at(25), at(50)], names=NAMES)
    assert [block.dataset for block in second.blocks] == ["HDTF (early): minus ours", "HDTF (late): minus ours"]


def test_what_every_run_says_is_said_once_and_of_all() -> None:
    notes = wide([at(25), at(25)], names=NAMES).notes
    assert notes.count("Clips are resampled to 25 fps.") == 1
    assert not any(note.endswith(": Clips are resampled to 25 fps.") for note in notes)


def test_unlike_data_sets_keep_their_plain_names() -> None:
    table = wide([at(25), at(50, "other"), at(30, "hdtf")], names=("a", "b", "c"))
    assert [block.dataset for block in table.blocks] == ["HDTF (a)", "other", "HDTF (c)"]
    assert wide([at(25)], names=("a",)) == wide([at(25)])


def test_names_that_repeat_or_are_not_given_are_numbered() -> None:
    assert [s.dataset for s in tell_apart([at(25), at(50)])] == ["HDTF (run 1)", "HDTF (run 2)"]
    same = tell_apart([at(25), at(50), at(75)], ("eval", "other", "eval"))
    assert [s.dataset for s in same] == ["HDTF (eval, run 1)", "HDTF (other)", "HDTF (eval, run 3)"]


def test_published_rows_still_join_their_data_set() -> None:
    table = wide([at(25), at(50)], names=NAMES, with_paper="table1")
    assert [block.dataset for block in table.blocks] == ["HDTF (early)", "HDTF (late)", "AVSpeech", "CelebV-HQ"]
    assert [any(row.published for row in block.rows) for block in table.blocks[:2]] == [True, False]


def test_the_long_form_tells_runs_apart_in_its_data_set() -> None:
    content = render("csv", [at(25), at(50)], tidy=True, names=NAMES)
    lines = list(stdlib_csv.DictReader(io.StringIO(content)))
    keys = {(line["dataset"], line["method"], line["column"]) for line in lines}
    assert len(keys) == len(lines) and {line["dataset"] for line in lines} == {"HDTF (early)", "HDTF (late)"}


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "html"])
def test_the_command_names_runs_by_their_folders(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [write_at(tmp_path / name, rate) for name, rate in zip(NAMES, (25, 50), strict=True)]
    app(["report", *map(str, folders), "--format", format], standalone_mode=False)
    shown = capsys.readouterr().out
    for name, rate in zip(NAMES, (25, 50), strict=True):
        assert f"HDTF ({name})" in shown
        assert format == "csv" or f"HDTF ({name}): Clips are resampled to {rate} fps." in shown


def test_the_page_names_runs_in_tables_headings_and_choices(tmp_path: Path) -> None:
    runs = [read_run(write_at(tmp_path / name, rate)) for name, rate in zip(NAMES, (25, 50), strict=True)]
    content = write_html(runs, tmp_path / "out").read_text(encoding="utf-8")
    assert [view["dataset"] for view in data_of(content)] == ["HDTF (early)", "HDTF (late)"]
    assert "<title>lt-eval: HDTF (early), HDTF (late)</title>" in content
    for name, rate in zip(NAMES, (25, 50), strict=True):
        assert f"<span>HDTF ({name})</span>" in content
        assert f"<h3>HDTF ({name})</h3>" in content
        assert f"<li>HDTF ({name}): Clips are resampled to {rate} fps.</li>" in content
