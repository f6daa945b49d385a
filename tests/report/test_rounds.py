from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lt_eval.errors import StoreError, UsageError
from lt_eval.records import DIMENSIONS, MethodInfo, Summary
from lt_eval.report.rounds import is_rounds, read_manifest, read_rounds, write_manifest
from lt_eval.report.rounds_page import RoundsReport, write_rounds
from lt_eval.report.rounds_tables import render_rounds
from lt_eval.report.table import wide
from lt_eval.rounds_summary import RoundsSummary, SummaryOptions, summarise_rounds
from tests.report.rounds_fixtures import NASTY, write_run
from tests.report.test_html import Page
from tests.report.test_latex import DOCUMENT

QUICK = SummaryOptions(draws=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rounds")
    write_run(out, scenarios=30)
    return out


@pytest.fixture(scope="module")
def summary(folder: Path) -> RoundsSummary:
    return summarise_rounds(read_rounds(folder), QUICK)


def report_of(folder: Path) -> RoundsReport:
    run = read_rounds(folder)
    found = summarise_rounds(run, QUICK)
    return RoundsReport(run, found.percentiles, found.raw, found.statistics)


def page_of(folder: Path, out: Path, with_paper: str | None = None) -> tuple[Page, str]:
    content = write_rounds(report_of(folder), out, with_paper=with_paper).read_text(encoding="utf-8")
    return Page(content), content


# The files


def test_a_manifest_is_read_as_it_was_written(folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(folder)
    assert is_rounds(folder)
    assert not is_rounds(tmp_path)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    bare = replace(manifest, judge=None, transcripts=None, signals={}, sessions=())
    write_manifest(tmp_path, bare)
    assert read_manifest(tmp_path) == bare


def test_a_manifest_needs_only_format_methods_and_scenarios(tmp_path: Path) -> None:
    (tmp_path / "multiround.json").write_text('{"format": 1, "methods": [{"name": "a"}], "scenarios": ["s"]}')
    manifest = read_manifest(tmp_path)
    assert manifest.methods == (MethodInfo("a"),)
    assert manifest.judge is None
    assert read_rounds(tmp_path).conversations == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "methods": [], "scenarios": []}', '{"format": 1}'])
def test_what_is_no_run_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreError, match=r"holds no multiround\.json"):
        read_manifest(tmp_path)
    (tmp_path / "multiround.json").write_text(text)
    with pytest.raises(StoreError, match="not"):
        read_manifest(tmp_path)


def test_every_key_of_the_manifest_is_on_the_page_of_the_report(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "multiround-report.md").read_text(encoding="utf-8")
    data = read_manifest(folder).to_json()
    for key in (*data, *data["judge"], *data["transcripts"]):
        assert f'"{key}"' in page, key


# The tables


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_table_2s_columns_with_intervals_and_the_raw_means_as_a_block(summary: RoundsSummary) -> None:
    text = render_rounds("csv", [summary.percentiles], [summary.raw], with_paper="all")
    lines = rows_of(text)
    order = [name for name in lines[0] if not name.endswith((" low", " high", " n", " N"))]
    assert order == ["dataset", "method", "Throughput (FPS)", "Latency (s)", *DIMENSIONS, "Mention recall (share)"]
    ours = lines[0]
    assert float(ours["EA low"]) < float(ours["EA"]) < float(ours["EA high"])
    raw = next(line for line in lines if line["dataset"] == "Multi-round, raw means" and line["method"] == "ours")
    assert 1 <= float(raw["EA"]) <= 5
    published = [line for line in lines if line["method"].endswith("(published)")]
    assert [(line["dataset"], line["EA"]) for line in published] == [
        ("Multi-round", "23.51"),
        ("Multi-round", "75.78"),
        ("Multi-round", "59.54"),
    ]


def test_the_long_form_has_both_tables(summary: RoundsSummary) -> None:
    lines = rows_of(render_rounds("csv", [summary.percentiles], [summary.raw], tidy=True))
    assert len(lines) == 3 * 12 + 3 * 9
    assert {line["dataset"] for line in lines} == {"Multi-round", "Multi-round, raw means"}


def test_latex_has_table_2s_titles_marks_and_footer(summary: RoundsSummary) -> None:
    text = render_rounds("latex", [summary.percentiles], [summary.raw], with_paper="all")
    titles = r"\multicolumn{4}{c}{Visual Interaction Performance} & \multicolumn{5}{c}{Interaction Content Quality}"
    assert titles in text
    assert r"\cmidrule(lr){4-7}\cmidrule(lr){8-12}" in text
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 3
    value = next(c for c in summary.percentiles.cells if (c.method, c.column) == ("ours", "EA")).value
    assert rf"\textbf{{{value:.2f}}}" in text
    assert r"theirs \& co" in text
    assert "LiveTalk$^\\dagger$" in text
    assert "Qwen3-VL-30B-A3B-Instruct" in text


def test_every_row_of_a_latex_table_has_as_many_cells(summary: RoundsSummary) -> None:
    """An unescaped & of a hostile name would add a cell."""
    nasty = _renamed(summary.percentiles)
    text = render_rounds("latex", [nasty], [_renamed(summary.raw)])
    assert r"\textbackslash{}boxed\{5\}" in text
    for table in text.split(r"\begin{tabular}")[1:]:
        body = table.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
        cells = {line.replace(r"\&", "").count("&") for line in body.splitlines() if line.endswith((r"\\", "pt]"))}
        assert len(cells - {0}) == 1, cells


def test_latex_compiles_and_fits_the_page(summary: RoundsSummary, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    for percentiles, raw in (
        (summary.percentiles, summary.raw),
        (_renamed(summary.percentiles), _renamed(summary.raw)),
    ):
        content = render_rounds("latex", [percentiles], [raw], with_paper="all")
        (tmp_path / "table.tex").write_text(DOCUMENT % content, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout


def _renamed(summary: Summary) -> Summary:
    text = json.dumps(summary.to_json()).replace(json.dumps("theirs & co"), json.dumps(NASTY))
    return Summary.from_json(json.loads(text))


@pytest.mark.parametrize("format", ["text", "markdown"])
def test_other_formats_show_both_tables(summary: RoundsSummary, format: str) -> None:
    text = render_rounds(format, [summary.percentiles], [summary.raw])
    assert "raw means" in text
    assert "Krippendorff" in text


def test_formats_that_there_are_not_are_refused(summary: RoundsSummary) -> None:
    with pytest.raises(UsageError, match="folder of files"):
        render_rounds("html", [summary.percentiles], [summary.raw])
    with pytest.raises(UsageError, match="none of"):
        render_rounds("cvs", [summary.percentiles], [summary.raw])


def test_tested_marks_replace_those_by_value_but_only_of_judged_columns(summary: RoundsSummary) -> None:
    unmarked = replace(summary.percentiles, marks={name: {} for name in DIMENSIONS})
    naive = replace(summary.percentiles, marks={})
    marks = {}
    for name, given in (("tested", summary.percentiles), ("unclear", unmarked), ("naive", naive)):
        table = wide([given])
        columns = [header.label for header in table.headers]
        first = table.blocks[0].rows[0]
        marks[name] = {label: c.mark for label, c in zip(columns, first.cells, strict=True)}
    assert marks["tested"]["EA"] == marks["naive"]["EA"] == "best"
    assert marks["unclear"]["EA"] == ""
    assert {each["Latency (s)"] for each in marks.values()} == {"best"}


def test_values_on_common_scenarios_are_marked_though_some_are_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path, scenarios=30, failed=(("weak", 3, "parse_error"),))
    table = wide([summarise_rounds(run, QUICK).percentiles])
    (ours,) = (row for row in table.blocks[0].rows if row.name == "ours")
    ea = ours.cells[[h.label for h in table.headers].index("EA")]
    assert (ea.coverage, ea.mark) == ("29/30", "best")
    assert not any("not ranked" in note and "fewer" in note for note in table.notes)


# The page


def test_hostile_words_are_shown_and_never_run(folder: Path, tmp_path: Path) -> None:
    page, content = page_of(folder, tmp_path / "out")
    assert len(page.of("script")) == 1
    assert "<script>alert" not in content
    assert NASTY in "".join(page.text)
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_a_hostile_scenario_method_and_path_are_escaped_in_attributes(tmp_path: Path) -> None:
    write_run(tmp_path / "run", scenarios=3)
    nasty = '"><img src=x onerror=alert(1)>'
    for name in ("multiround.json", "conversations.jsonl", "verdicts.jsonl", "rows.jsonl"):
        path = tmp_path / "run" / name
        text = path.read_text(encoding="utf-8").replace('"theirs & co"', json.dumps(nasty))
        path.write_text(text.replace('"s1"', json.dumps(nasty)), encoding="utf-8")
    page, content = page_of(tmp_path / "run", tmp_path / "out")
    assert not page.of("img")
    assert "<img" not in content
    assert nasty in "".join(page.text)


def test_the_page_asks_for_nothing_outside_its_folder(folder: Path, tmp_path: Path) -> None:
    page, _ = page_of(folder, tmp_path / "out", "all")
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href") and v and not v.startswith("#")]
    assert links == []
    assert not page.of("link")


def test_each_conversation_has_all_methods_words_and_verdicts(folder: Path, tmp_path: Path) -> None:
    page, content = page_of(folder, tmp_path / "out")
    talks = [each for each in page.of("details") if each.get("class") == "talk"]
    assert len(talks) == 30
    assert len([each for each in page.of("div") if each.get("class") == "take"]) == 30 * 3 * (3 + 9)
    text = " ".join("".join(page.text).split())
    assert "OIE of weak: it holds together." in text
    assert "heard: what about s4 number 2" in text
    assert "first frame after 1.10 s, the talker 0.40 s of it; 4.0 s long" in text
    assert content.count('class="given"') == 30 * 3 * 9 * 2


def test_conversations_on_which_methods_differ_most_come_first(folder: Path, tmp_path: Path) -> None:
    page, _ = page_of(folder, tmp_path / "out")
    talks = [each for each in page.of("details") if each.get("class") == "talk"]
    spreads = [float(each["data-all"] or 0) for each in talks]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > spreads[-1]
    assert sorted(int(each["data-place"] or 0) for each in talks) == list(range(30))
    assert all(f"data-{name.lower()}" in talks[0] for name in DIMENSIONS)


def test_videos_are_beside_the_page_and_absent_ones_say_so(tmp_path: Path) -> None:
    from lt_eval.conversations import write_conversations

    run = write_run(tmp_path / "run", scenarios=2, failed=(("weak", 1, "generation_failure"),))
    (tmp_path / "run" / "a b#1.mp4").write_bytes(b"video")
    videos = [tmp_path / "run" / "a b#1.mp4", None, tmp_path / "gone.mp4"]
    changed = [
        replace(c, turns=tuple(replace(t, video=v) for t, v in zip(c.turns, videos, strict=False)))
        for c in run.conversations
    ]
    write_conversations(tmp_path / "run", changed)
    page, _ = page_of(tmp_path / "run", tmp_path / "out")
    sources = {each["src"] for each in page.of("video")}
    assert sources
    for source in sources:
        assert source is not None
        assert (tmp_path / "out" / source).read_bytes() == b"video"
    text = "".join(page.text)
    assert "No video." in text
    assert f"The video is no longer at {tmp_path / 'gone.mp4'}." in text
    assert "This turn was not answered." in text
    assert "weak: generation_failed" in text


def test_failed_judgments_show_their_status_instead_of_a_score(tmp_path: Path) -> None:
    write_run(tmp_path / "run", scenarios=3, failed=(("weak", 1, "parse_error"),))
    page, _ = page_of(tmp_path / "run", tmp_path / "out")
    text = " ".join("".join(page.text).split())
    assert "parse error EA of weak: it holds together. babble" in text
    assert "judgments without a score: parse_error 2" in text


def test_a_run_without_a_judge_has_a_page_too(tmp_path: Path) -> None:
    write_run(tmp_path / "run", scenarios=3, judged=False)
    page, _ = page_of(tmp_path / "run", tmp_path / "out")
    text = " ".join("".join(page.text).split())
    assert "not judged: no server was named" in text
    assert "How far the scores can be trusted" not in text
    assert len([each for each in page.of("details") if each.get("class") == "talk"]) == 3


def test_the_facts_name_what_a_reader_must_know(folder: Path, tmp_path: Path) -> None:
    page, _ = page_of(folder, tmp_path / "out")
    text = "".join(page.text)
    for fact in ("vllm 0.33.0", "EA cd0cd8b9", "User WER", "3.1% of 4210 words", "Judgments (K)", "lt-eval multiround"):
        assert fact in text, fact


def test_a_report_is_not_written_over_anything_else(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a run folder"):
        write_rounds(report_of(folder), folder)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="was not written by lt-eval"):
        write_rounds(report_of(folder), tmp_path)
