"""The acceptance figures: every bound from both sides, and the script from bundle to page at nano size."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lt_eval.distill.recipe import build
from lt_eval.generator.networks import save_bundle, seeded_parts
from lt_eval.records import GROUND_TRUTH
from tests.distill.test_command import RECIPE
from tests.scripts import BENCHMARKS, script

FOLDER = BENCHMARKS / "distill"


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    return script("distill", "judge")


def figures(judge: ModuleType, in_time: int = 15, **changed: dict[str, float | None]) -> Any:
    """Return figures that meet everything; a keyword changes a method's."""
    values: dict[str, dict[str, float | None]] = {
        GROUND_TRUTH: {"FID": None, "FVD": None, "Sync-C": 8.0, "Throughput": None},
        judge.BUNDLE: {"FID": 10.0, "FVD": 100.0, "Sync-C": 6.0, "Throughput": 25.0},
        judge.UNTRAINED: {"FID": 50.0, "FVD": 500.0, "Sync-C": None, "Throughput": 30.0},
        judge.TEACHER: {"FID": 10.0 / 1.5, "FVD": 100.0 / 1.5, "Sync-C": 7.0, "Throughput": 1.0},
        judge.FROZEN: {"FID": 5.0, "FVD": 100.1, "Sync-C": 0.5, "Throughput": None},
        judge.OTHER: {"FID": 10.0, "FVD": 100.0, "Sync-C": 0.5, "Throughput": None},
    }
    for name, change in changed.items():
        method = {"ground_truth": GROUND_TRUTH, "frozen": judge.FROZEN, "other": judge.OTHER}.get(name, name)
        values[method] = values[method] | change
    return judge.Figures(values, 16, in_time, 25.0)


def test_figures_at_their_bounds_are_met(judge: ModuleType) -> None:
    found = judge.verdicts(figures(judge))
    assert [verdict.met for verdict in found] == [True] * 10


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (0, {"bundle": {"Sync-C": 5.99}}),
        (2, {"untrained": {"FID": 49.9}}),
        (3, {"untrained": {"FVD": 499.0}}),
        (4, {"teacher": {"FID": 6.6}}),
        (5, {"teacher": {"FVD": 66.0}}),
        (6, {"frozen": {"FVD": 100.0}}),
        (7, {"frozen": {"Sync-C": 6.0}}),
        (8, {"other": {"Sync-C": 6.1}}),
        (9, {"bundle": {"Throughput": 24.9}}),
    ],
)
def test_each_bound_is_missed_alone(judge: ModuleType, place: int, changed: dict[str, Any]) -> None:
    assert [number for number, one in enumerate(judge.verdicts(figures(judge, **changed))) if not one.met] == [place]


def test_nine_tenths_of_the_clips_are_in_time(judge: ModuleType) -> None:
    assert judge.verdicts(figures(judge, in_time=14))[1].met is False  # 87.5 %
    assert judge.verdicts(replace(figures(judge, in_time=18), clips=20))[1].met is True


def test_what_was_not_measured_is_not_met(judge: ModuleType) -> None:
    nothing = figures(judge, bundle={"Sync-C": None, "FID": None}, ground_truth={"Sync-C": None})
    assert [one.met for one in judge.verdicts(nothing)] == [None, True, None, True, None, True, True, None, None, True]
    silent = figures(judge, frozen={"Sync-C": None}, other={"Sync-C": None})  # nothing in time is found: below anything
    assert all(one.met for one in judge.verdicts(silent))


def test_above_means_above_in_pairs_where_there_are_some(judge: ModuleType) -> None:
    for high, met in ((-0.1, True), (0.1, False)):
        found = judge.verdicts(replace(figures(judge), differences={judge.OTHER: (-5.5, -6.0, high)}))
        assert [one.met for one in found] == [True] * 8 + [met, True]
        assert f"6 against 0.5: -5.5 [-6, {high:+g}]" in found[8].found


def test_a_gpus_rate_says_nothing_about_two_cores(judge: ModuleType) -> None:
    assert judge.verdicts(replace(figures(judge), on_gpu=True))[-1].met is None


@pytest.mark.slow
def test_a_bundle_is_judged(
    judge: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nano.toml").write_text(RECIPE)
    config = build(tomllib.loads(RECIPE)).config()
    for seed, name in enumerate(("bundle", "teacher"), 1):
        save_bundle(seeded_parts(config, seed), tmp_path / f"{name}.safetensors", dtype=torch.float32)

    def run(*words: object) -> int:
        line = ["--recipe", tmp_path / "nano.toml", "--work", tmp_path / "work", "--device", "cpu", *words]
        monkeypatch.setattr(sys, "argv", ["judge.py", *map(str, line)])
        found: int = judge.main()
        return found

    bundles = ["--bundle", tmp_path / "bundle.safetensors", "--teacher", tmp_path / "teacher.safetensors"]
    assert run(*bundles, "--people", 2, "--seconds", 2.2, "--out", tmp_path / "judge.md") == 0
    page = (tmp_path / "judge.md").read_text()
    assert "# Acceptance of bundle.safetensors" in page and "of 10 are met" in page
    assert "| clips within one frame of their sound | 0 of 2 | at least 90% | **not met** |" in page
    assert "| Sync-C, share of ground truth's | not measured | at least 75% | not judged |" in page
    for name in ("bundle", "untrained", "teacher", "frozen portrait", "other audio"):
        assert f"\n| {name} | " in page
    capsys.readouterr()
    assert run("--bundle", "none.safetensors", *bundles[2:], "--people", 2, "--seconds", 2.2) == 2
    assert "there is no such file" in capsys.readouterr().err
