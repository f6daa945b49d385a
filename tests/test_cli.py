"""The command line as a user meets it: exit codes, messages without tracebacks, data on standard output."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.clips import write_clips

REPOSITORY = Path(__file__).resolve().parents[1]


def lt_eval(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lt_eval", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "120"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


PICTURES = ("--metric", "fid", "--metric", "fvd", "--weights", "builtin")
"""Metrics that clips of a second without a face can be scored by."""


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run that several tests read; its root holds results/folder."""
    root = tmp_path_factory.mktemp("cli")
    write_clips(root / "refs", ["a", "b", "c"])
    write_clips(root / "ours", ["a", "b", "c"], blur=5)
    done = lt_eval("single", "--reference", "refs", "--clips", "ours=ours", *PICTURES, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "FID (builtin)" in done.stdout and "Report: " in done.stderr
    return root


def test_a_run_leaves_every_form_of_its_table(run_folder: Path) -> None:
    run = run_folder / "results" / "folder"
    for name in ("table.md", "table.csv", "table.tex", "tidy.csv"):
        assert "ours" in (run / "tables" / name).read_text()
    assert (run / "report" / "index.html").is_file()


def test_report_prints_to_standard_output(run_folder: Path) -> None:
    done = lt_eval("report", "results/folder", "--format", "csv", "--tidy", cwd=run_folder)
    assert done.returncode == 0 and done.stderr == ""
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["dataset", "method", "column", "value", "low", "high", "n", "total", "unit", "better"]
    assert {row["method"] for row in rows} >= {"ours"}


def test_report_takes_the_newest_run_and_the_papers_rows(run_folder: Path) -> None:
    done = lt_eval("report", "--with-paper", cwd=run_folder)
    assert done.returncode == 0
    assert "Newest run: results/folder" in done.stderr
    assert "24.82" in done.stdout and "OmniAvatar-14B" in done.stdout and "ours" in done.stdout


def test_report_needs_no_torch(run_folder: Path) -> None:
    code = (
        "import sys\nfrom lt_eval.cli import app\n"
        "app(['report', 'results/folder', '--format', 'latex'], standalone_mode=False)\n"
        "print({'torch', 'cv2', 'av'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=run_folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_failed_rows_exit_with_1_and_still_make_a_table(run_folder: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "ours", ["a", "b"])
    (tmp_path / "ours" / "c.mp4").write_text("no video")
    words = ("single", "--reference", run_folder / "refs", "--clips", f"ours={tmp_path / 'ours'}")
    done = lt_eval(*words, *PICTURES, cwd=tmp_path)
    assert done.returncode == 1
    assert "(2/3)" in done.stdout and "not_a_video: ours/c" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("single",), "No data set was named"),
        (("single", "--dataset", "hdt"), "Did you mean 'hdtf'"),
        (("single", "--dataset", "hdtf"), "lt-eval data prepare hdtf --source"),
        (("single", "--dataset", "avspeech"), "lt-eval data prepare avspeech --source"),
        (("single", "--reference", "nowhere"), "nowhere: there is no such folder"),
        (("single", "--reference", "refs", "--dataset", "hdtf"), "cannot be joined"),
        (("single", "--reference", "refs"), "lt-eval weights fetch"),
        (("single", "--reference", "refs", "--clips", "ours="), "--clips ours=: no folder is named"),
        (("multiround", "--system", "ours=out/none"), "there is no folder out/none. Give the one that holds manifest"),
        (("single", "--reference", "refs", "--clips", "a=x", "--clips", "a=y"), "given twice"),
        (("single", "--reference", "refs", "--fps", "fast"), "--fps fast"),
        (("single", "--reference", "refs", "--set", "media.sise=5"), "Did you mean 'size'"),
        (("single", "--reference", "refs", "--set", "nonsense"), "KEY=VALUE"),
        (("single", "--reference", "refs", "--weights", "oficial"), "'official'"),
        (("single", "none.toml"), "none.toml"),
        (("single", "--no-such-flag"), "--no-such-flag"),
        (("report", "nowhere"), "no such run folder"),
        (("report", "refs"), "not a run folder"),
        (("report", "results/folder", "results/folder", "--format", "html"), "--out is missing"),
        (("single", "--dataset", "folder"), "--set dataset.root=VALUE"),
        (("report", "results/folder", "--format", "pdf"), "pdf"),
        (("report", "results/folder", "--format", "latex", "--tidy"), "csv"),
        (("weights", "fetch", "incption"), "Did you mean 'inception'"),
        (("weights", "verify", "inception"), "lt-eval weights fetch inception"),
        (("data", "check", "hdtf"), "hdtf"),
        (("data", "prepare", "hdft"), "hdtf"),
        (("data", "prepare", "hdtf"), "--source"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_unusable_input_exits_with_2_and_a_message_that_suffices(
    run_folder: Path, words: tuple[str, ...], expected: str
) -> None:
    done = lt_eval(*words, cwd=run_folder, LT_EVAL_CACHE=str(run_folder / "cache"))
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_everything_that_a_run_lacks_is_told_at_once(run_folder: Path) -> None:
    done = lt_eval("single", "--reference", "refs", cwd=run_folder, LT_EVAL_CACHE=str(run_folder / "cache"))
    assert "lt-eval weights fetch inception i3d syncnet s3fd one-align\n" in done.stderr
    assert done.stderr.count("--weights builtin") == 1


def test_without_results_report_says_how_to_make_some(tmp_path: Path) -> None:
    done = lt_eval("report", cwd=tmp_path)
    assert done.returncode == 2 and "lt-eval single --dataset demo" in done.stderr


def test_an_unreadable_folder_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (tmp_path / "refs").mkdir(mode=0)
    done = lt_eval("single", "--reference", "refs", "--weights", "builtin", cwd=tmp_path)
    assert done.returncode == 2 and "cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_named(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("single", "--reference", "refs", "--weights", "builtin", "--out", tmp_path / "file" / "run")
    done = lt_eval(*words, cwd=run_folder)
    assert done.returncode == 2 and "cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_says_that_nothing_is_lost(run_folder: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "refs", [f"c{number}" for number in range(40)])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "lt_eval",
            "single",
            "--reference",
            "refs",
            "--metric",
            "tests.protocols.slow_metric:SlowMean",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    rows = tmp_path / "results" / "folder" / "rows.jsonl"
    while process.poll() is None and not (rows.is_file() and rows.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said


def test_clips_that_sync_cannot_score_say_why_and_iqa_says_why_it_is_empty(run_folder: Path, tmp_path: Path) -> None:
    words = ("single", "--reference", run_folder / "refs", "--weights", "builtin", "--sync-mode", "direct")
    done = lt_eval(*words, "--set", "metric.sync.faces=haar", cwd=tmp_path)
    assert done.returncode == 1 and "clip_too_short: ground-truth/a" in done.stderr
    assert "no builtin network rates pictures" in done.stdout and "IQA" in done.stdout


def test_flags_of_metrics_reach_them(run_folder: Path, tmp_path: Path) -> None:
    words = ("single", "--reference", run_folder / "refs", "--weights", "builtin")
    for flag, rule in (("--sync-mode=fast", "reference"), ("--qalign-frames=-3", "0 (all) or more")):
        done = lt_eval(*words, flag, cwd=tmp_path)
        assert done.returncode == 2 and rule in done.stderr and "Traceback" not in done.stderr


def test_the_lists_name_what_there_is(tmp_path: Path) -> None:
    listed = lt_eval("list", cwd=tmp_path).stdout
    assert "fid" in listed and "hdtf" in listed
    weights = lt_eval("weights", "list", cwd=tmp_path).stdout
    assert "pt_inception-2015-12-05" in weights and "licence" in weights
    data = lt_eval("data", "list", cwd=tmp_path, LT_EVAL_CACHE=str(tmp_path)).stdout
    assert all(name in data for name in ("demo", "hdtf", "avspeech", "celebvhq"))
    assert lt_eval("weights", "path", cwd=tmp_path, LT_EVAL_WEIGHTS="/w").stdout == "/w\n"


def test_every_option_of_every_command_has_a_help_text(tmp_path: Path) -> None:
    for words in (("single",), ("report",), ("data", "prepare"), ("data", "check"), ("weights", "fetch")):
        text = lt_eval(*words, "--help", cwd=tmp_path).stdout
        options = [line.strip() for line in text.splitlines() if line.strip().startswith("--")]
        assert options and all("  " in line or len(line) > 30 for line in options), options


def test_bench_prints_a_table_for_people_and_one_line_for_programs(tmp_path: Path) -> None:
    words = ("--generator", "lt_eval.testing:ToyGenerator", "--set", "block=4", "--runs", "2", "--seconds", "0.5")
    done = lt_eval("bench", *words, "--size", "32", "--conditions", "noise", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["options"] == {"block": 4} and result["figures"]["throughput_fps"]["n"] == 2
    assert "throughput" in done.stderr and "first frame, compute" in done.stderr
    assert (tmp_path / "results" / "bench-ToyGenerator" / "rows.jsonl").is_file()


def test_a_bench_with_failed_runs_exits_with_1(tmp_path: Path) -> None:
    words = ("--generator", "tests.bench.odd:Odd", "--set", "mode=raise", "--runs", "1", "--warmup", "0")
    done = lt_eval("bench", *words, "--seconds", "0.2", "--size", "32", cwd=tmp_path)
    assert done.returncode == 1 and "out of ideas" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(done.stdout)["failed"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--generator", "reverence"), "There is no generator called"),
        (("--generator", "lt_eval.testing:ToyGenerator", "--pace", "realtme"), "Did you mean 'realtime'"),
        (("--generator", "lt_eval.testing:ToyGenerator", "--load", "many"), "the word search, or sessions a second"),
        (("--generator", "lt_eval.testing:ToyGenerator", "--runs", "0"), "at least 1"),
        (("--generator", "external-command"), "needs the option 'command'"),
    ],
)
def test_a_bench_that_cannot_start_says_why(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = lt_eval("bench", *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_metrics_is_another_spelling_of_metric(tmp_path: Path) -> None:
    done = lt_eval("single", "--dataset", "demo", "--metrics", "speed", cwd=tmp_path)
    assert done.returncode == 2 and "no generator was named" in done.stderr
