"""The script that times student and teacher in turns: what its ratio is, and that it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import BENCHMARKS, script

SCRIPT = BENCHMARKS / "speed" / "teacher.py"


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    return script("speed", "teacher")


def test_ratios_are_those_of_medians(speed: ModuleType) -> None:
    def measured(name: str, *rounds: tuple[float, float]) -> object:
        return speed.Measured(name, {}, [{"throughput_fps": f, "first_frame_s": s} for f, s in rounds], ())

    slow, fast = measured("teacher", (1, 10), (2, 20), (9, 90)), measured("student", (40, 0.5), (10, 0.25), (99, 0.1))
    assert speed.ratios(slow, fast) == {"throughput_fps": 20.0, "first_frame_s": 80.0}


def test_both_are_timed_in_one_run(
    speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"preset": "nano", "size": 64, "seconds": 0.6, "rounds": 2, "steps": 3, "device": "cpu"}
    words |= {"teacher-threads": 1, "report": tmp_path / "report.md"}
    line = [part for name, value in words.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["teacher.py", *line])
    assert speed.main() == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: len(rounds) for name, rounds in found["rounds"].items()} == {"teacher": 2, "student": 2}
    page = (tmp_path / "report.md").read_text()
    assert "| teacher: bidirectional, whole clip | random | 1 | 3 | 4.5 |" in page
    assert "| student: causal, streamed | random | 2 | 4 | none |" in page


def test_weights_that_are_not_there_end_it_in_a_sentence(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--preset", "nano", "--teacher", "none.safetensors", "--teacher-threads", "1"]
    monkeypatch.setattr(sys, "argv", ["teacher.py", *words])
    assert speed.main() == 2
    assert "There are no weights at none.safetensors" in capsys.readouterr().err
