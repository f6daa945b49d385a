"""The lock file of the full environment and the script that builds it; nothing is installed here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "environments" / "build.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("environments_build", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pip:
    """Stands for venv and pip: makes the interpreter's file, and fails where told to."""

    def __init__(self, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = False
        self.calls = 0
        monkeypatch.setattr(script.venv, "create", self.create)
        monkeypatch.setattr(script.subprocess, "run", self.run)

    def create(self, folder: Path, **_: Any) -> None:
        assert not folder.exists()
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()

    def run(self, command: list[str], **_: Any) -> None:
        self.calls += 1
        assert "--no-deps" in command
        if self.fails:
            raise subprocess.CalledProcessError(1, command)


def test_the_lock_names_every_package_once_at_one_version(script: ModuleType) -> None:
    packages = script.packages_of(script.LOCK)
    names = [re.fullmatch(r"([A-Za-z0-9_.-]+)==[0-9][^; ]*(; .+)?", line) for line in packages]
    assert all(names)
    known = [match[1].lower().replace("_", "-") for match in names if match]
    assert len(set(known)) == len(known) > 100
    assert [name for name in known if "opencv" in name] == ["opencv-python-headless"]


def test_an_environment_is_built_once(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip, lock = Pip(script, monkeypatch), tmp_path / "small.txt"
    lock.write_text("six==1.17.0\n")
    python = script.build(lock)
    assert python == script.build(lock)
    assert python.is_file() and pip.calls == 1
    assert python.is_relative_to(tmp_path / "cache")


def test_what_an_interrupted_build_left_is_not_taken_for_whole(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip, lock = Pip(script, monkeypatch), tmp_path / "small.txt"
    lock.write_text("six==1.17.0\n")
    pip.fails = True
    with pytest.raises(subprocess.CalledProcessError):
        script.build(lock)
    assert not script.is_built(script.folder_of(lock))
    pip.fails = False
    script.build(lock)
    assert script.is_built(script.folder_of(lock)) and pip.calls == 2


def test_other_packages_are_another_environment_and_other_comments_are_not(script: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "small.txt"
    lock.write_text("six==1.17.0\n")
    first = script.folder_of(lock)
    lock.write_text("# why\nsix==1.17.0  # needed\n\n")
    assert script.folder_of(lock) == first
    lock.write_text("six==1.16.0\n")
    assert script.folder_of(lock) != first
