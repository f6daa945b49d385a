from __future__ import annotations

from dataclasses import replace

import pytest

from lt_eval.errors import UnknownNameError
from lt_eval.records import GROUND_TRUTH, Cell, Column, MethodInfo, Summary
from lt_eval.report.table import UNRANKED, Mark, Table, TableCell, differences, number, wide
from tests.report.fixtures import NASTY, builtin_only, summary


def one_column(column: Column, values: dict[str, float | None], name: str = "Sync-C") -> Summary:
    cells = tuple(Cell("set", m, name, v, n=8, total=8, better=column.better) for m, v in values.items())
    return Summary("set", tuple(MethodInfo(m) for m in values), {name: column}, cells)


def cells_of(table: Table, label: str, block: int = 0) -> dict[str, TableCell]:
    index = [header.label for header in table.headers].index(label)
    return {row.label + ("†" if row.published else ""): row.cells[index] for row in table.blocks[block].rows}


def marks_of(table: Table, label: str, block: int = 0) -> dict[str, Mark]:
    return {name: cell.mark for name, cell in cells_of(table, label, block).items()}


@pytest.mark.parametrize(("better", "best", "second"), [("higher", "c", "b"), ("lower", "a", "b")])
def test_best_and_second_follow_the_better_direction(better: str, best: str, second: str) -> None:
    column = Column("higher" if better == "higher" else "lower")
    marks = marks_of(wide([one_column(column, {"a": -1.0, "b": 2.0, "c": 10.0})]), "Sync-C")
    assert {name for name, mark in marks.items() if mark == "best"} == {best}
    assert {name for name, mark in marks.items() if mark == "second"} == {second}


def test_equal_printed_values_share_a_mark() -> None:
    marks = marks_of(wide([one_column(Column("higher"), {"a": 4.501, "b": 4.499, "c": 3.0, "d": 1.0})]), "Sync-C")
    assert marks == {"a": "best", "b": "best", "c": "second", "d": ""}


def test_ground_truth_competes_with_nobody() -> None:
    values: dict[str, float | None] = {GROUND_TRUTH: 99.0, "a": 1.0, "b": 2.0}
    marks = marks_of(wide([one_column(Column("higher"), values)]), "Sync-C")
    assert marks == {"Ground Truth": "", "a": "second", "b": "best"}


def test_a_lone_value_a_missing_one_and_a_column_without_direction_are_not_marked() -> None:
    assert set(marks_of(wide([one_column(Column("lower"), {"a": 1.0, "b": None})]), "Sync-C").values()) == {""}
    assert set(marks_of(wide([one_column(Column("neither"), {"a": 1.0, "b": 2.0})]), "Sync-C").values()) == {""}
    assert set(marks_of(wide([one_column(Column("lower"), {"a": 1.0, "b": float("nan")})]), "Sync-C").values()) == {""}


def test_a_value_of_some_of_the_clips_is_not_ranked_and_the_notes_say_so() -> None:
    whole = one_column(Column("higher"), {GROUND_TRUTH: 9.0, "a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    partial = replace(whole, cells=tuple(replace(c, n=4) if c.method == "d" else c for c in whole.cells))
    assert marks_of(wide([whole]), "Sync-C")["d"] == "best"
    assert marks_of(wide([partial]), "Sync-C") == {"Ground Truth": "", "a": "", "b": "second", "c": "best", "d": ""}
    assert [note for note in wide([partial]).notes if "not ranked" in note] == [UNRANKED]
    assert not any("not ranked" in note for note in wide([whole]).notes)


def test_one_whole_value_among_partial_ones_is_not_marked() -> None:
    whole = one_column(Column("lower"), {"a": 1.0, "b": 2.0, "c": 3.0})
    partial = replace(whole, cells=tuple(replace(c, n=4) if c.method != "b" else c for c in whole.cells))
    assert set(marks_of(wide([partial]), "Sync-C").values()) == {""}


def test_ranking_is_not_spoken_of_where_no_value_would_be_ranked() -> None:
    values: dict[str, float | None] = {GROUND_TRUTH: 9.0, "a": None, "b": 2.0}
    unmeasured = one_column(Column("higher"), values)
    gone = tuple(replace(c, n=4) if c.method != "b" else c for c in unmeasured.cells)
    assert UNRANKED not in wide([replace(unmeasured, cells=gone)]).notes
    neither = one_column(Column("neither"), {"a": 1.0, "b": 2.0})
    assert UNRANKED not in wide([replace(neither, cells=tuple(replace(c, n=4) for c in neither.cells))]).notes


def test_published_rows_and_unlike_columns_never_compete() -> None:
    alone = wide([summary(), builtin_only()])
    beside = wide([summary(), builtin_only()], with_paper="all")
    for label in [header.label for header in alone.headers]:
        for block in range(2):
            measured = {n: m for n, m in marks_of(beside, label, block).items() if not n.endswith("†")}
            assert measured == marks_of(alone, label, block)
    published = [cell for block in beside.blocks for row in block.rows if row.published for cell in row.cells]
    assert published and all(cell.mark == "" for cell in published)
    # the lowest number of all stands under "FID (builtin)", and FID has a best of its own
    assert marks_of(beside, "FID")[NASTY] == marks_of(beside, "FID (builtin)")[NASTY] == "best"


def test_columns_stand_in_the_order_of_the_paper_with_units_and_arrows() -> None:
    titles = [header.title for header in wide([summary()]).headers]
    assert titles == [
        "Throughput (FPS) ↑",
        "Latency (s) ↓",
        "FID ↓",
        "FID (builtin) ↓",
        "Sync-C ↑",
        "blinks (1/min)",
    ]


def test_ground_truth_comes_first_and_has_neither_distance_nor_count_of_its_own() -> None:
    row = wide([summary()]).blocks[0].rows[0]
    assert row.label == "Ground Truth"
    cell = cells_of(wide([summary()]), "FID")["Ground Truth"]
    assert (cell.text, cell.coverage) == ("–", "")


def test_coverage_is_shown_exactly_where_clips_are_missing() -> None:
    table = wide([summary()])
    pairs = [(row, h, c) for row in table.blocks[0].rows for h, c in zip(table.headers, row.cells, strict=True)]
    shown = {(row.label, header.label) for row, header, cell in pairs if cell.coverage}
    assert shown == {("worst", "FID"), ("worst", "Sync-C")}
    assert cells_of(table, "FID")["worst"].coverage == "7/8"


def test_an_empty_cell_says_why_in_itself_and_under_the_table() -> None:
    table = wide([summary()])
    assert cells_of(table, "Sync-C")["worst"].note == "no clip has a face"
    assert any("no clip has a face" in note and "Sync-C of worst" in note for note in table.notes)


def test_notes_hold_floors_footnotes_and_completeness() -> None:
    text = "\n".join(wide([summary()]).notes)
    assert "FID 3.21" in text and "pytorch-fid preprocessing" in text and "N = 8" in text
    assert "Every value is of all 8 clips" in "\n".join(wide([builtin_only()]).notes)
    single = builtin_only()
    alone = replace(single, cells=tuple(replace(cell, n=1, total=1) for cell in single.cells))
    assert "Every value is of one clip, which has no interval." in wide([alone]).notes


def test_published_rows_join_the_block_of_their_data_set_and_follow_ours() -> None:
    table = wide([replace(summary(), dataset="hdtf")], with_paper="table1")
    assert [block.dataset for block in table.blocks] == ["HDTF", "AVSpeech", "CelebV-HQ"]
    flags = [row.published for row in table.blocks[0].rows]
    assert flags == [False] * 4 + [True] * 7


def test_a_column_that_nobody_has_is_no_column() -> None:
    assert "FVD" not in [header.label for header in wide([summary()]).headers]
    assert "FVD" in [header.label for header in wide([summary()], with_paper="table1").headers]


def test_an_unknown_published_table_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"table9.*table1"):
        wide([summary()], with_paper="table9")


def test_a_difference_counts_as_gain_only_where_its_interval_excludes_zero() -> None:
    table = differences([summary()])
    assert [block.dataset for block in table.blocks] == ["HDTF: minus ours"]
    assert marks_of(table, "FID") == {NASTY: "gain", "worst": "loss"}
    assert marks_of(table, "Sync-C") == {NASTY: "", "worst": ""}
    assert marks_of(table, "blinks (1/min)")["worst"] == ""
    assert cells_of(table, "FID")[NASTY].text == "-2.83"
    assert cells_of(table, "FID")["worst"].interval == "[+70.00, +99.00]"


def test_numbers_have_no_negative_zero() -> None:
    assert number(-0.001, 2) == "0.00"
    assert number(-0.001, 2, signed=True) == "0.00"
    assert number(1.005, 1, signed=True) == "+1.0"
