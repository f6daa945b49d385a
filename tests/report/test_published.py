from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

import lt_eval.report
from lt_eval.records import GROUND_TRUTH, Summary
from lt_eval.report import published
from lt_eval.report.table import wide
from tests.report.fixtures import summary

PAPER = Path(__file__).resolve().parents[3] / "shared" / "livetalk_paper.txt"
FOLDER = Path(lt_eval.report.__file__).parent / "paper"


def lines_of(table: str) -> list[list[str]]:
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def printed(number: int) -> list[list[str]]:
    """Return the body of a printed table: a name and its cells a line."""
    if not PAPER.is_file():
        pytest.skip(f"the text of the paper is not here: {PAPER}")
    text = PAPER.read_text(encoding="utf-8")
    start = text.index(f"\nTable {number}: ")
    lines = text[start:].split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    body = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        body.append([re.sub(r"</?u>|\*", "", cell).strip() for cell in line.strip("|").split("|")])
    return [line for line in body if re.search(r"\d\.\d\d|^-$", " ".join(line))]


@pytest.mark.parametrize(("number", "rows"), [(1, 21), (2, 3), (3, 6)])
def test_every_printed_number_is_transcribed(number: int, rows: int) -> None:
    body = printed(number)
    header, *lines = lines_of(f"table{number}")
    skipped = [i for i, name in enumerate(header) if name in ("dataset", "method", "citation", "source")]
    assert len(body) == len(lines) == rows
    for line, ours in zip(body, lines, strict=True):
        name = ours[1] + (f" ({ours[header.index('citation')]})" if "citation" in header and ours[2] else "")
        assert line[0] == name
        assert ["" if cell == "-" else cell for cell in line[1:]] == [
            cell for i, cell in enumerate(ours) if i not in skipped
        ]


def test_data_sets_stand_with_their_own_rows() -> None:
    if not PAPER.is_file():
        pytest.skip(f"the text of the paper is not here: {PAPER}")
    names = re.findall(r"^\| (HDTF|AVSpeech|CelebV-HQ) \|", PAPER.read_text(encoding="utf-8"), re.MULTILINE)
    datasets = [line[0] for line in lines_of("table1")[1:]]
    assert datasets == [name for name in names for _ in range(7)]


@pytest.mark.parametrize("table", published.TABLES)
def test_the_table_shows_what_the_csv_holds(table: str) -> None:
    header, *lines = lines_of(table)
    shown = wide([summary()], with_paper=table)
    labels = [h.label for h in shown.headers]
    rows = {
        (block.dataset, row.label): dict(zip(labels, row.cells, strict=True))
        for block in shown.blocks
        for row in block.rows
        if row.published
    }
    assert len(rows) == len(lines)
    for line in lines:
        method = {"Ours": "LiveTalk"}.get(line[1], line[1])
        for name, text in zip(header, line, strict=True):
            if name in labels:
                assert rows[line[0], method][name].text == (text or "–")


def test_every_published_row_is_marked_and_names_its_source() -> None:
    for table in published.TABLES:
        for found in published.read(table):
            assert all(method.published for method in found.methods)
            assert all("2512.23576" in note for note in found.footnotes)
    assert published.read("table1")[0].methods[0].name == GROUND_TRUTH


def test_all_means_the_tables_of_the_kind_of_run() -> None:
    assert [s.dataset for s in published.choose("all", (summary(),))] == [
        "HDTF",
        "AVSpeech",
        "CelebV-HQ",
        "HDTF ablation",
    ]
    (judged,) = published.read("table2")
    mine = Summary("multi-round", (), judged.columns, ())
    assert [s.dataset for s in published.choose("all", (mine,))] == ["Multi-round"]
