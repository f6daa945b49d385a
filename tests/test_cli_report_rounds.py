"""`lt-eval report` of a multi-round run as a user meets it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lt_eval.cli.report_rounds import publish_rounds
from lt_eval.errors import StoreError, UnjudgedError
from lt_eval.report.rounds import RoundsManifest, read_manifest, write_manifest
from tests.report.rounds_fixtures import write_run
from tests.test_cli import lt_eval


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("cli-rounds")
    write_run(found / "results" / "good", scenarios=20)
    write_run(found / "results" / "bad", scenarios=20, failed=(("weak", 2, "truncated"),))
    return found


def test_csv_goes_to_standard_output(root: Path) -> None:
    done = lt_eval("report", "results/good", "--format", "csv", "--with-paper", cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [line["method"] for line in lines][:4] == ["ours", "theirs & co", "weak", "Veo3 (published)"]


def test_what_the_judge_failed_on_stops_the_report_until_it_is_allowed(root: Path) -> None:
    done = lt_eval("report", "results/bad", "--format", "markdown", cwd=root)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "weak: truncated 2" in done.stderr
    assert "--allow-missing" in done.stderr
    assert "Traceback" not in done.stderr
    allowed = lt_eval("report", "results/bad", "--format", "markdown", "--allow-missing", cwd=root)
    assert allowed.returncode == 0, allowed.stderr
    assert "19/20" in allowed.stdout
    assert "judgments without a score: truncated 2" in allowed.stdout


def test_a_pool_is_frozen_and_used_again(root: Path) -> None:
    first = lt_eval("report", "results/good", "--format", "csv", "--tidy", "--write-pool", "pool.json", cwd=root)
    assert first.returncode == 0, first.stderr
    again = lt_eval("report", "results/good", "--format", "csv", "--tidy", "--reference-pool", "pool.json", cwd=root)
    assert again.returncode == 0, again.stderr
    values = [
        [float(line["value"]) for line in csv.DictReader(io.StringIO(each.stdout)) if line["value"]]
        for each in (first, again)
    ]
    assert values[0] == pytest.approx(values[1])
    data = json.loads((root / "pool.json").read_text())
    (root / "other.json").write_text(json.dumps({**data, "judge": "another"}))
    refused = lt_eval("report", "results/good", "--reference-pool", "other.json", cwd=root)
    assert refused.returncode == 2
    assert "is of judge 'another'" in refused.stderr


def test_choices_that_there_are_not_are_refused(root: Path) -> None:
    for words, said in (
        (("--mark", "naiv"), "Did you mean"),
        (("--percentile", "rank"), "none of normal-cdf, empirical-midrank"),
        (("--reference-pool", "absent.json"), "absent.json"),
        (("--percentile", "empirical-midrank", "--reference-pool", "pool.json"), ""),
    ):
        done = lt_eval("report", "results/good", *words, cwd=root)
        assert done.returncode == 2, words
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_several_runs_are_told_apart_in_one_table_but_have_no_page(root: Path) -> None:
    done = lt_eval("report", "results/good", "results/bad", "--allow-missing", "--format", "csv", "--tidy", cwd=root)
    assert done.returncode == 0, done.stderr
    names = {line["dataset"] for line in csv.DictReader(io.StringIO(done.stdout))}
    assert {"Multi-round (good)", "Multi-round (bad)", "Multi-round, raw means (good)"} <= names
    page = lt_eval("report", "results/good", "results/bad", "--format", "html", "--out", "x", cwd=root)
    assert page.returncode == 2
    assert "name one folder" in page.stderr


def test_two_judges_of_the_same_conversations_are_compared(root: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "second", scenarios=20)
    assert other.manifest.judge is not None
    write_manifest(other.folder, replace(other.manifest, judge=replace(other.manifest.judge, model="second-judge")))
    done = lt_eval("report", root / "results" / "good", other.folder, "--format", "markdown", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = "Agreement of the judges Qwen3-VL-30B-A3B-Instruct, second-judge on the same conversations"
    assert said in done.stdout
    assert "EA 1.00" in done.stdout


def test_a_finished_run_leaves_every_form_of_its_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "results" / "good"
    publish_rounds(folder)
    for name in ("table.md", "table.csv", "table.tex", "tidy.csv"):
        assert "ours" in (folder / "tables" / name).read_text()
    assert json.loads((folder / "statistics.json").read_text())["scenarios"] == 20
    assert json.loads((folder / "summary.json").read_text())["dataset"] == "Multi-round"
    assert (folder / "report" / "index.html").is_file()
    assert "raw means" in capsys.readouterr().out


def test_an_unjudged_run_is_not_published(root: Path) -> None:
    with pytest.raises(UnjudgedError):
        publish_rounds(root / "results" / "bad")
    assert not (root / "results" / "bad" / "tables").exists()


def test_flags_of_multi_round_runs_are_refused_for_others(tmp_path: Path) -> None:
    from tests.report.fixtures import write_run as write_single

    write_single(tmp_path / "single")
    done = lt_eval("report", "single", "--mark", "naive", cwd=tmp_path)
    assert done.returncode == 2
    assert "--mark is about a multi-round run" in done.stderr
    write_run(tmp_path / "rounds", scenarios=3)
    mixed = lt_eval("report", "single", "rounds", cwd=tmp_path)
    assert mixed.returncode == 2
    assert "report them apart" in mixed.stderr


def test_a_manifest_without_a_judge_reports_empty_cells(tmp_path: Path) -> None:
    run = write_run(tmp_path / "rounds", scenarios=3, judged=False)
    assert isinstance(read_manifest(run.folder), RoundsManifest)
    write_manifest(run.folder, run.manifest)
    done = lt_eval("report", "rounds", "--format", "markdown", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no server was named" in done.stdout
    assert "raw means" not in done.stdout


def test_an_unfinished_run_is_not_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", scenarios=3)
    write_manifest(run.folder, replace(run.manifest, judge=None, finished=False))
    with pytest.raises(StoreError, match="stopped before its end"):
        publish_rounds(run.folder)
    assert not (run.folder / "summary.json").exists()
