"""The commands as a shell sees them: what they print where, and how they exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import write_clips
from tests.protocols.rounds_world import HERE, write_scenarios

ROOT = Path(__file__).resolve().parents[1]


def lt_eval(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"PYTHONPATH": str(ROOT), "LT_EVAL_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "lt_eval", *words],
        cwd=cwd,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scenarios(tmp_path / "scenarios.jsonl")
    return tmp_path


SMALL = ("--scenarios", "scenarios.jsonl", "--speaker", f"{HERE}:Beep", "--metric", "motion", "--device", "cpu")
QUICK = (*SMALL, "--weights", "builtin", "--set", "warmups=0", "--set", "portrait_px=64", "--out", "run")


def test_a_run_prints_its_table_and_says_what_is_empty(folder: Path) -> None:
    done = lt_eval("multiround", "--system", f"own={HERE}:System", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "| own " in done.stdout and "Latency (s)" in done.stdout and "Motion" in done.stdout
    assert "The nine judged dimensions are empty: no judge was named (--judge URL)." in done.stderr
    assert (folder / "run" / "report" / "index.html").is_file() and (folder / "run" / "tables" / "table.tex").is_file()


def test_a_failed_conversation_is_exit_code_1_and_a_reason(folder: Path) -> None:
    fault = ("--set", "system.own.options.fault=raise")
    done = lt_eval("multiround", "--system", f"own={HERE}:System", *fault, *QUICK, cwd=folder)
    assert done.returncode == 1 and "own/soup: generation_failed: Turn 2: RuntimeError: CUDA error" in done.stderr
    assert "1 of 3 conversations failed" in done.stderr and "Traceback" not in done.stderr
    assert "| own " in done.stdout


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        ((), "No system was named"),
        (("--system", "referense"), "Did you mean 'reference'"),
        (("--system", "no.such:Thing"), "cannot be imported"),
        (("--system", f"own={HERE}:System", "--repeats", "3"), "Add --judge URL"),
        (("--system", f"own={HERE}:System", "--talker", "openai"), "--talker is of the reference system"),
        (("--system", f"own={HERE}:System", "--judge", "http://127.0.0.1:9", "--set", "judge.tries=1"), "judge serve"),
        (("--system", f"a={HERE}:System", "--system", "a=reference"), "given twice"),
        (("--demo", "--talker", "openai"), "needs the option"),
        (("--system", "reference", "--set", "system.reference.options.generater=x"), "Did you mean 'generator'"),
    ],
)
def test_what_cannot_be_used_is_exit_code_2_and_a_sentence(folder: Path, words: tuple[str, ...], finding: str) -> None:
    small = SMALL[2:] if "--demo" in words else SMALL
    done = lt_eval("multiround", *words, *small, "--weights", "builtin", "--out", "run", cwd=folder)
    assert done.returncode == 2 and finding in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_validate_says_what_is_wrong_and_how_it_exits(folder: Path) -> None:
    results = write_clips(folder / "theirs", ["a"])
    turn = {"video": "a.mp4", "transcript": "Hello."}
    row = {"method": "sora", "scenario_id": "tower", "turns": [turn, turn]}
    (results / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    good = lt_eval("validate", "theirs", "--scenarios", "scenarios.jsonl", "--decode", cwd=folder)
    assert (good.returncode, good.stdout) == (0, "") and "Everything is in order." in good.stderr
    (results / "manifest.jsonl").write_text(json.dumps(row | {"scenario_id": "towr"}) + "\n{\n")
    bad = lt_eval("validate", "theirs", "--scenarios", "scenarios.jsonl", cwd=folder)
    assert bad.returncode == 1 and [line.split(": ")[1] for line in bad.stdout.splitlines()] == ["line 2", "line 1"]
    absent = lt_eval("validate", "nothing", cwd=folder)
    assert absent.returncode == 2 and "no such folder" in absent.stderr and "Traceback" not in absent.stderr


@pytest.mark.slow
def test_the_demo_runs_on_a_fresh_machine(folder: Path) -> None:
    """With the smallest generator: the default one takes a minute."""
    nano = ("--set", "system.reference.options.generator_options.preset=nano", "--set", "warmups=0")
    done = lt_eval("multiround", "--demo", *nano, "--device", "cpu", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "| reference " in done.stdout and "Mention recall" in done.stdout and "no judge was named" in done.stdout
    lines = (folder / "run" / "conversations.jsonl").read_text().splitlines()
    assert len(lines) == 4 and all(json.loads(line)["failure"] is None for line in lines)
