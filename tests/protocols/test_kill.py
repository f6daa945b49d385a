"""`kill -9` at any moment loses at most the clip in flight: the finished table is that of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lt_eval.store import read_rows
from tests.clips import write_clips

KILLS = 20
NAMES = [f"clip{number}" for number in range(6)]


def command(root: Path, out: str, metrics: list[str]) -> list[str]:
    line = [sys.executable, "-m", "lt_eval", "single", "--reference", str(root / "refs")]
    line += ["--clips", f"ours={root / 'ours'}", "--weights", "builtin", "--threads", "1", "--out", str(root / out)]
    return line + [word for metric in metrics for word in ("--metric", metric)]


@pytest.mark.slow
def test_twenty_kills_do_not_change_the_table(tmp_path: Path) -> None:
    write_clips(tmp_path / "refs", NAMES)
    write_clips(tmp_path / "ours", NAMES, blur=5)
    metrics = ["tests.protocols.slow_metric:SlowMean", "fid"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    whole = subprocess.run(
        command(tmp_path, "whole", metrics), env=environment, capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stderr

    rng = random.Random(0)
    rows = tmp_path / "killed" / "rows.jsonl"
    grew = 0
    for _ in range(KILLS):
        before = rows.stat().st_size if rows.is_file() else 0
        process = subprocess.Popen(
            command(tmp_path, "killed", metrics), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # from the first instruction of the interpreter to well past the last clip of a run
        time.sleep(rng.uniform(0.0, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        grew += rows.is_file() and rows.stat().st_size > before
        if rows.is_file() and rows.read_bytes().count(b"\n") == 2 * len(NAMES) * len(metrics):
            # nothing is left to kill: start over in the middle, as if the last clips had not been reached
            rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[: rng.randrange(20)]))
    assert grew >= 3  # else no kill came while clips were measured
    last = subprocess.run(command(tmp_path, "killed", metrics), env=environment, capture_output=True, check=False)
    assert last.returncode == 0
    for name in ("summary.json", "tables/table.md", "tables/table.csv", "tables/table.tex", "tables/tidy.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert {row.key for row in read_rows(tmp_path / "killed")} == {row.key for row in read_rows(tmp_path / "whole")}
