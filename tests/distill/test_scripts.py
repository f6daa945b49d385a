"""Mistakes of people who run the scripts of distillation: one sentence, exit status 2, nothing drawn for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distill.test_command import RECIPE
from tests.scripts import script


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "nano.toml").write_text(RECIPE)
    return str(tmp_path / "nano.toml")


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("ceilings", ["{tmp}/no", "--recipe", "{recipe}"], "There is no checkpoint {tmp}/no/codec/codec.safetensors"),
        ("ceilings", ["{tmp}", "--recipe", "{tmp}/no.toml"], "{tmp}/no.toml"),
        ("ceilings", ["{tmp}", "--recipe", "{recipe}", "--people", "0"], "--people is 0; at least 1"),
        ("travel", ["pack", "{tmp}/no", "{tmp}/p"], "{tmp}/no holds no training material"),
        ("travel", ["unpack", "{recipe}", "{tmp}/p"], "{recipe} is no folder that travel.py pack wrote"),
        ("judge", ["--bundle", "{tmp}/no", "--teacher", "{recipe}"], "--bundle {tmp}/no: there is no such file"),
        ("judge", ["--bundle", "{recipe}", "--teacher", "{recipe}", "--people", "0"], "--people is 0; at least 1"),
        ("judge", ["--bundle", "{recipe}", "--teacher", "{recipe}", "--seconds", "0"], "--seconds is 0; at least 2.2"),
        ("table3", ["train", "--out", "{tmp}/t", "--jobs", "0"], "--jobs is 0; at least 1"),
        ("table3", ["train", "--out", "{tmp}/t", "--device", "gpu"], "device 'gpu' cannot be used here"),
        ("table3", ["measure", "--out", "{tmp}/t"], "no row was trained with seed 0"),
        ("table3", ["report", "--out", "{tmp}/t"], "Run table3.py measure --out {tmp}/t first"),
    ],
)
def test_a_mistake_is_a_sentence(
    name: str, words: list[str], message: str, recipe: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    known = {"tmp": tmp_path, "recipe": recipe}
    monkeypatch.setattr("sys.argv", [name, *(word.format(**known) for word in words)])
    assert script("distill", name).main() == 2
    said = capsys.readouterr().err
    assert message.format(**known) in said and said.count("\n") == 1
    assert not (tmp_path / "results").exists() and not (tmp_path / "t" / "people").exists()
