"""docs/plugins.md does what it says: its modules, its commands, its tests and its entry points are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import wave
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from lt_eval.media.encode import encode
from lt_eval.records import Column, Sample
from lt_eval.testing import ConformanceError, check_clip_metric, toy_clip, toy_portrait, toy_speech

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / "plugins.md").read_text(), re.MULTILINE | re.DOTALL)
MODULES = {text.splitlines()[0].removeprefix("# "): text for language, text in BLOCKS if language == "python"}
COMMANDS = [line for language, text in BLOCKS if language == "console" for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reader of the page has: its files, and clips of their own."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    for place in ("real", "made", "people"):
        (folder / place).mkdir()
    for seed, name in enumerate(("ann", "ben", "cid")):
        for place, clip in (("real", toy_clip(0.6, 64, seed)), ("made", toy_clip(0.6, 64, seed + 10))):
            encode(folder / place / f"{name}.mp4", clip.frames, clip.fps, clip.audio)
        people = folder / "people" / name
        cv2.imwrite(f"{people}.png", toy_portrait(64, seed)[..., ::-1])
        shutil.copy(folder / "real" / f"{name}.mp4", people.with_suffix(".mp4"))
        with wave.open(f"{people}.wav", "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((toy_speech(0.6, seed) * 32767).astype("<i2").tobytes())
    return folder


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_has_what_it_promises() -> None:
    assert set(MODULES) == {"motion.py", "colours.py", "recordings.py", "glow.py", "test_mine.py"}
    code = [line for line in MODULES["motion.py"].splitlines()[1:] if line.strip()]
    assert len(code) <= 15
    assert {command.split()[1] for command in COMMANDS} == {"lt-eval"}


@pytest.mark.parametrize("command", [command for command in COMMANDS if "lt-eval" in command])
def test_its_commands_fill_a_table(folder: Path, command: str) -> None:
    arguments = shlex.split(command)[2:]
    done = run("-c", "from lt_eval.cli import main; main()", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "Motion (levels)" in done.stdout


def test_its_tests_pass(folder: Path) -> None:
    done = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_mine.py", folder=folder)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_its_entry_points_lead_to_its_classes() -> None:
    ((_, text),) = [block for block in BLOCKS if block[0] == "toml"]
    groups = tomllib.loads(text)["project"]["entry-points"]
    for target in [target for group in groups.values() for target in group.values()]:
        module, _, name = target.partition(":")
        assert f"class {name}:" in MODULES[f"{module}.py"]


@dataclass(frozen=True)
class Motion:
    columns = {"Motion": Column("neither")}

    def score(self, sample: Sample) -> dict[str, float]:
        return {"Motion": 1.0 if len(sample.clip.frames) > 1 else float("nan")}


def test_the_message_it_quotes_is_the_message_there_is() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    (quoted,) = re.findall("`(ClipMetric Motion breaks .*)`", page)
    with pytest.raises(ConformanceError, match=f"^{re.escape(quoted)}$"):
        check_clip_metric(Motion)
