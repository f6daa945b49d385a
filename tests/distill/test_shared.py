"""Recipes that share stages: what is made once is read by the others in place, and nothing foreign is mixed in."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lt_eval.distill.recipe import Recipe, build, facts
from lt_eval.distill.stages import STAGES, Workshop, run_stage
from lt_eval.errors import SpecError, StoreError
from tests.distill.test_command import RECIPE

FEW = replace(build(tomllib.loads(RECIPE)), name="few", held_out_people=1, held_out_seconds=2.2)


def run(recipe: Recipe, out: Path, *stages: str) -> list[str]:
    shop = Workshop(recipe, out, lambda *_: None)
    return [run_stage(stage, shop) for stage in stages]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LT_EVAL_CACHE", str(out.parent / "cache"))
        run(FEW, out, "curate", "codec", "teacher", "ode-pairs")
    return out


@pytest.fixture(autouse=True)
def cache(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(first.parent / "cache"))


def sharing(out: Path, *stages: str) -> Mapping[str, str]:
    return {stage: str(out) for stage in stages}


def test_what_is_shared_is_neither_made_again_nor_copied(first: Path, tmp_path: Path) -> None:
    """A run that shares all before the student ends with the bytes of one that made everything itself."""
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file() and path.name != ".lock"}
    shared = sharing(first, *STAGES[:4])
    said = run(replace(FEW, shared=shared), tmp_path / "row", *STAGES[:5])
    assert said[:4] == [f"{stage} is that of {first / folder}." for stage, folder in (
        ("curate", "conditions/kept"), ("codec", "codec"), ("teacher", "teacher"), ("ode-pairs", "pairs")
    )]  # fmt: skip
    assert not any((tmp_path / "row" / folder).exists() for folder in ("conditions", "codec", "teacher", "pairs"))
    assert all(path.stat().st_mtime_ns == mark for path, mark in before.items())
    run(FEW, first, "ode-init")
    mine, theirs = ((out / "ode" / "student.safetensors").read_bytes() for out in (tmp_path / "row", first))
    assert mine == theirs


def test_a_row_that_shares_its_student_needs_no_trajectories(first: Path, tmp_path: Path) -> None:
    run(FEW, first, "ode-init")
    row = replace(FEW, name="row", shared=sharing(first, "curate", "codec", "teacher", "ode-init"))
    assert "Best at step" in run(row, tmp_path / "row", "dmd")[0]
    assert (tmp_path / "row" / "row.safetensors").is_file()


def test_a_shared_student_that_changed_is_not_continued_from(first: Path, tmp_path: Path) -> None:
    run(FEW, first, "ode-init")
    row = replace(FEW, shared=sharing(first, "curate", "codec", "teacher", "ode-init"))
    run(row, tmp_path / "row", "dmd")
    path = first / "ode" / "student.safetensors"
    kept = path.read_bytes()
    try:
        save_file({name: value + 0.01 for name, value in load_file(path).items()}, path)
        with pytest.raises(StoreError, match="came from other weights"):
            run(row, tmp_path / "row", "dmd")
    finally:
        path.write_bytes(kept)


def test_trajectories_of_another_seed_are_not_taken(first: Path, tmp_path: Path) -> None:
    row = replace(FEW, seed=1, shared=sharing(first, *STAGES[:4]))
    with pytest.raises(StoreError, match="trajectories of another teacher"):
        run(row, tmp_path / "row", "ode-init")


def test_what_is_shared_and_missing_is_named_with_its_folder(tmp_path: Path) -> None:
    row = replace(FEW, shared=sharing(tmp_path / "none", "codec", "teacher"))
    for stage in ("codec", "teacher"):  # the first that is missing is named
        with pytest.raises(StoreError, match=r"distill codec with the recipe and --out of .*none, which shared\.codec"):
            run(row, tmp_path / "row", stage)
    assert not (tmp_path / "none").exists()


def test_where_something_lies_is_no_part_of_what_is_made() -> None:
    assert facts(FEW) == facts(replace(FEW, shared={"codec": "elsewhere"}))


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({"codek": "a"}, "Did you mean 'codec'"),
        ({"dmd": "a"}, "no stage that can be shared"),
        ({"codec": 3}, "shared.codec is 3"),
        ({"teacher": "a"}, "Name one folder for both"),
        ({"teacher": "a", "codec": "b"}, "shared.teacher is 'a' and shared.codec 'b'"),
    ],
)
def test_sharing_that_cannot_be_is_refused(shared: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build({"shared": shared})
